"""The pages without a gateway: the tests say what one would, and when."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from playwright.sync_api import WebSocketRoute, expect

from browser.conftest import SESSION_ID, Tab, list_sessions, words_said_again
from browser.game_page import eventually
from browser.live_page import (
    BLACK,
    COUNTERS,
    OTHER,
    OTHER_ID,
    SESSION,
    WATCH,
    refuse_views,
    view_of,
    watched,
)
from sgaps.settings import load_settings
from sgaps_client.pictures import encoded_png

TOLD_SECS = 3.0
"""Longer than the pages wait by themselves."""
NOTHING_KEPT = """for (const name of ["localStorage", "sessionStorage"]) {
  const get = () => { throw new DOMException("denied", "SecurityError"); };
  Object.defineProperty(window, name, { get });
}"""


def test_a_refusal_is_forgotten_with_the_session_it_was_said_of(tab: Tab, url: str) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    refuse_views(page, code="session_not_found", message="no such session")
    list_sessions(page, SESSION)
    page.goto(url)
    expect(words).to_have_text("The gateway shows nothing: no such session")
    page.get_by_role("button", name="Pause").click()
    expect(words).to_have_text("Paused")
    page.get_by_role("button", name="Pause").click()
    expect(words).to_have_text("The gateway shows nothing: no such session")
    list_sessions(page)
    expect(words).to_contain_text("Nobody plays")


@pytest.mark.parametrize("is_game", [False, True])
def test_a_viewer_comes_back_when_it_is_told_to(tab: Tab, url: str, is_game: bool) -> None:
    page = tab.page
    came = refuse_views(page, code="too_many_sessions", message="full", retry_after_secs=TOLD_SECS)
    list_sessions(page, *([] if is_game else [SESSION]))
    page.goto(url)
    if is_game:
        page.evaluate(WATCH, SESSION_ID)
    page.wait_for_timeout(1000 * (TOLD_SECS + 2))
    assert len(came) == 2
    assert came[1] - came[0] >= TOLD_SECS
    if not is_game:
        expect(page.locator("#state-text")).to_have_text("The gateway shows nothing: full")


def test_a_page_under_a_strange_name_says_what_to_do(tab: Tab, url: str) -> None:
    refusal = {"detail": "set server.auth_token_file"}
    tab.page.route("**/api/sessions", lambda route: route.fulfill(status=403, json=refusal))
    tab.page.goto(url)
    words = tab.page.locator("#state-text")
    expect(words).to_have_text("The gateway shows nothing: set server.auth_token_file")
    tab.troubles = [trouble for trouble in tab.troubles if "403" not in trouble]


@pytest.mark.parametrize("is_game", [False, True])
def test_a_viewer_that_hears_nothing_looks_again(tab: Tab, url: str, is_game: bool) -> None:
    """As after a router forgot the connection: neither side is told."""
    page, viewers = tab.page, list[WebSocketRoute]()
    page.clock.install()
    page.route_web_socket("**/ws/view/*", lambda socket: viewers.append(socket))  # noqa: PLW0108
    list_sessions(page, *([] if is_game else [SESSION]))
    page.goto(url)
    if is_game:
        page.evaluate(WATCH, SESSION_ID)
    page.clock.run_for(2000)
    gateway_waits_secs = load_settings(environment={}).server.client_timeout_secs
    for _ in range(2):
        viewers[0].send(json.dumps({"type": "view_status", "counters": {}}))
        page.clock.run_for(round(1000 * gateway_waits_secs) + 2000)  # a view may take so long
    assert len(viewers) == 1
    page.clock.run_for(6000)
    eventually(page, lambda: len(viewers) == 2)


def test_a_view_of_another_version_says_what_to_do(tab: Tab, url: str) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    page.route_web_socket("**/ws/view/*", lambda socket: socket.send(b"SG\x09\x04" + bytes(8)))
    list_sessions(page, SESSION)
    page.goto(url)
    expect(words).to_have_text(
        "What the gateway shows is not a view of a version that this page knows: load it again"
    )
    list_sessions(page)
    expect(words).to_contain_text("Nobody plays")


@pytest.mark.parametrize("path", ["/", "/game/"])
def test_a_browser_that_keeps_nothing_for_sites_shows_the_pages(
    tab: Tab, url: str, path: str
) -> None:
    page, switch = tab.page, tab.page.locator("[data-theme-switch]")
    page.add_init_script(NOTHING_KEPT)
    list_sessions(page)
    page.route_web_socket("**/ws/stream", lambda socket: None)
    page.goto(url + path)
    switch.click()
    expect(switch).to_have_text("☾")
    expect(page.locator("#state-text")).to_contain_text(
        "Nobody plays" if path == "/" else "Connecting"
    )
    tab.troubles = [trouble for trouble in tab.troubles if "ReadPixels" not in trouble]


def test_nothing_of_another_session_is_shown_as_ones_own(tab: Tab, url: str) -> None:
    page, viewers = tab.page, dict[str, WebSocketRoute]()
    page.route_web_socket(
        "**/ws/view/*", lambda one: viewers.update({one.url.rsplit("/", 1)[1]: one})
    )
    list_sessions(page, SESSION, {**SESSION, "session_id": OTHER_ID})
    page.goto(url)
    figures, row = page.locator(".legend b"), page.locator("#vector li")
    eventually(page, lambda: viewers)
    for session_id, value in {SESSION_ID: 100.0, OTHER_ID: 1.0}.items():
        viewers.clear()  # a choice ends the socket of before, of the same session, too
        page.locator("#sessions").select_option(session_id)
        eventually(page, partial(viewers.get, session_id))
        status = {"type": "view_status", "counters": COUNTERS.model_dump()}
        viewers[session_id].send(json.dumps(status))
        expect(figures).to_have_text(["–"] * figures.count())
        viewers[session_id].send(view_of(session_id, value))
        expect(row).to_contain_text(f"{value:.3f}")
        expect(row).to_have_attribute("style", "--size: 1;")  # the largest one so far
        expect(figures.first).to_have_text("20.0 dB")


DRAWN = "all => all.filter(one => one.getContext('2d').getImageData(0, 0, 1, 1).data[3]).length"


@pytest.mark.parametrize("how", ["chosen", "chosen while paused", "left"])
def test_no_picture_is_shown_beside_the_facts_of_another_session(
    tab: Tab, url: str, how: str
) -> None:
    page, canvases = tab.page, tab.page.locator("#pictures canvas")
    viewer = watched(page, url, OTHER)
    words = page.locator(".lead span, .lead p, figcaption span, #age, #vector")
    before = words.all_inner_texts()
    viewer.send(view_of(SESSION_ID, truth=BLACK))
    expect(page.locator("#vector")).to_contain_text("1.000")
    assert canvases.evaluate_all(DRAWN) == canvases.count() == 5
    if "paused" in how:
        page.get_by_role("button", name="Pause").click()
    if how == "left":
        list_sessions(page, {**SESSION, "connected": False}, OTHER)
    else:
        page.locator("#sessions").select_option(OTHER_ID)
    expect(page.locator("#facts")).to_contain_text("other")
    assert canvases.evaluate_all(DRAWN) == 0
    assert words.all_inner_texts() == before
    expect(page.locator(".corner").filter(visible=True)).to_have_count(0)
    said = "Paused" if "paused" in how else "Waiting for the first picture"
    expect(page.locator("#state-text")).to_have_text(said)


def test_samples_that_are_of_another_picture_are_told_until_they_are_of_this_one(
    tab: Tab, url: str
) -> None:
    """A client that counts v from the bottom is answered as any other one, and learns it here."""
    viewer, told = watched(tab.page, url), tab.page.locator("#sent-text")
    viewer.send(view_of(SESSION_ID, truth=BLACK, sample_error=0.02))
    expect(told).to_contain_text("1 samples")
    viewer.send(view_of(SESSION_ID, frame_id=2, truth=BLACK, sample_error=0.3))
    expect(told).to_contain_text("not of the game's true frame: v counts from the top")
    viewer.send(view_of(SESSION_ID, frame_id=3))
    expect(tab.page.locator("#rebuilt-text")).to_contain_text("frame 3 ")
    expect(told).to_have_class("is-wrong")
    viewer.send(view_of(SESSION_ID, frame_id=4, truth=BLACK, sample_error=0.02))
    expect(told).to_contain_text("1 samples")
    expect(told).not_to_have_class("is-wrong")


def test_what_is_paused_is_shown_until_it_goes_on(tab: Tab, url: str) -> None:
    page, shown = tab.page, tab.page.locator("#rebuilt-text")
    watched(page, url).send(view_of(SESSION_ID))
    expect(shown).to_contain_text("frame 1 ")
    page.get_by_role("button", name="Pause").click()
    list_sessions(page, {**SESSION, "connected": False}, {**OTHER, "started_at_secs": 2.0})
    expect(page.locator("#sessions")).to_contain_text("other")
    expect(page.locator("#facts")).not_to_contain_text("other")
    expect(shown).to_contain_text("frame 1 ")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#facts")).to_contain_text("other")
    expect(shown).to_be_empty()


def test_the_newest_session_is_shown_unless_one_was_chosen(tab: Tab, url: str) -> None:
    page, key = tab.page, tab.page.locator("#facts dd").first
    watched(page, url, OTHER)
    expect(key).to_have_text("k")
    newest = {**SESSION, "session_id": "0" * 16, "checkpoint_key": "new", "started_at_secs": 2.0}
    list_sessions(page, OTHER, SESSION, newest)
    expect(key).to_have_text("new")
    page.locator("#sessions").select_option(OTHER_ID)
    expect(key).to_have_text("other")
    still_newer = {**newest, "session_id": "1" * 16, "started_at_secs": 3.0}
    list_sessions(page, OTHER, SESSION, newest, still_newer)
    expect(page.locator("#sessions option")).to_have_count(5)
    expect(key).to_have_text("other")


def test_a_gateway_whose_pictures_come_is_there(tab: Tab, url: str) -> None:
    """As where a list waits behind pictures on a slow line."""
    page, words = tab.page, tab.page.locator("#state-text")
    page.clock.install(time=0)
    page.clock.pause_at(3600)
    viewer = watched(page, url)
    viewer.send(view_of(SESSION_ID))
    expect(words).to_have_text("Live")
    page.route("**/api/sessions", lambda route: route.abort())
    with page.expect_event("requestfailed"):
        page.clock.run_for(1100)  # less than a picture takes to be old
    page.clock.run_for(250)
    expect(words).to_have_text("Live")
    page.clock.run_for(500)
    expect(words).to_contain_text("does not answer")
    tab.troubles = [trouble for trouble in tab.troubles if "ERR_FAILED" not in trouble]


def test_a_chosen_session_is_waited_for(tab: Tab, url: str) -> None:
    """As after a restart of the gateway, where others come back first."""
    page, sessions = tab.page, tab.page.locator("#sessions")
    watched(page, url, OTHER)
    sessions.select_option(OTHER_ID)
    expect(page.locator("#facts")).to_contain_text("other")
    for back in ((), (SESSION,)):
        list_sessions(page, *back)
        expect(sessions.locator("option")).to_have_count(len(back) + 2)
        expect(sessions).to_have_value(OTHER_ID)
        expect(sessions.locator(":checked")).to_have_text(f"other · {OTHER_ID[:6]} (gone)")
        said = "The chosen session is gone; waiting for it"
        expect(page.locator("#state-text")).to_have_text(said)
        expect(page.locator("#facts")).to_be_empty()
    list_sessions(page, SESSION, OTHER)
    expect(page.locator("#facts")).to_contain_text("other")
    expect(sessions.locator(":checked")).to_have_text(f"other · {OTHER_ID[:6]}")
    list_sessions(page, SESSION)
    sessions.select_option("")
    expect(page.locator("#facts dd").first).to_have_text("k")
    expect(sessions.locator("option")).to_have_count(2)


@pytest.mark.parametrize("ends", [1, 2])
def test_where_no_message_comes_over_a_socket_a_proxy_is_thought_of(
    tab: Tab, url: str, ends: int
) -> None:
    page, viewers = tab.page, list[WebSocketRoute]()

    def view(socket: WebSocketRoute) -> None:
        viewers.append(socket)
        if len(viewers) <= ends:
            socket.close()

    page.route_web_socket("**/ws/view/*", view)
    list_sessions(page, SESSION)
    page.goto(url)
    words, proxy = page.locator("#state-text"), "Does a proxy on the way let WebSockets through?"
    eventually(page, lambda: len(viewers) > ends)
    if ends == 1:
        expect(words).to_have_text("Waiting for the first picture")
    else:
        expect(words).to_contain_text(proxy)
    viewers[-1].send(json.dumps({"type": "view_status", "counters": {}, "connected": True}))
    expect(words).to_have_text("Waiting for the first picture")


@pytest.mark.parametrize(("every_secs", "live_secs"), [(0.2, 1.5), (2, 5), (8, 10)])
def test_a_slow_model_is_not_taken_for_one_that_stopped(
    tab: Tab, url: str, every_secs: float, live_secs: float
) -> None:
    page, state = tab.page, tab.page.locator("#state")
    page.clock.install(time=0)
    page.clock.pause_at(3600)
    viewer = watched(page, url)
    for frame_id in (1, 2):
        page.clock.run_for(round(1000 * every_secs))
        viewer.send(view_of(SESSION_ID, frame_id=frame_id))
        expect(page.locator("#rebuilt-text")).to_contain_text(f"frame {frame_id} ")
    page.clock.run_for(round(1000 * live_secs) - 250)
    expect(state).to_have_attribute("data-state", "live")
    page.clock.run_for(500)
    expect(state).to_have_attribute("data-state", "stale")


def test_a_true_frame_of_another_size_is_none_of_this_one(tab: Tab, url: str) -> None:
    page, viewer = tab.page, watched(tab.page, url)
    viewer.send(view_of(SESSION_ID, truth=BLACK))
    expect(page.locator("#truth-text")).to_contain_text("sent now and then")
    turned = encoded_png(np.zeros((8, 6), np.uint8))
    viewer.send(view_of(SESSION_ID, frame_id=2, picture=turned, size=(6, 8)))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 2 ")
    expect(page.locator("#truth-text")).to_have_text("none came yet")


@pytest.mark.parametrize(("status", "body"), [(500, "oops"), (403, "<html>no</html>"), (502, "{}")])
def test_who_answers_something_else_is_there(tab: Tab, url: str, status: int, body: str) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    page.route("**/api/sessions", lambda route: route.fulfill(status=status, body=body))
    page.goto(url)
    told = f"/api/sessions is answered with HTTP {status}"
    expect(words).to_have_text(f"The gateway shows nothing: {told}")
    page.route("**/api/sessions", lambda route: route.abort())
    expect(words).to_contain_text("does not answer")
    parts = (str(status), "ERR_FAILED")  # the browser's own lines
    tab.troubles = [t for t in tab.troubles if not any(part in t for part in parts)]


def test_a_fact_stays_selected_while_others_change(tab: Tab, url: str) -> None:
    page = tab.page
    watched(page, url)
    key, received = page.locator("#facts dd").first, page.locator("#facts dd").nth(4)
    expect(key).to_have_text("k")
    key.evaluate("one => getSelection().selectAllChildren(one)")
    list_sessions(page, {**SESSION, "frames_received": 7})
    expect(received).to_have_text("7")
    assert page.evaluate("getSelection().toString()") == "k"
    assert words_said_again(page) == []
    list_sessions(page)
    expect(page.locator("#facts")).to_be_empty()
