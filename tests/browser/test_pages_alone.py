"""The pages without a gateway: the tests say what one would, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from browser.conftest import PHONE, SESSION_ID, Tab, list_sessions, open_tab, words_said_again
from browser.game_page import eventually
from browser.walks import pages
from replays import png
from sgaps.protocol.views import (
    Counters,
    ImportanceShown,
    Parts,
    StagesMs,
    View,
    ViewHeader,
    encode_view,
)
from sgaps.settings import load_settings

OTHER_ID = "fedcba9876543210"
SESSION = {
    "session_id": SESSION_ID,
    "checkpoint_key": "k",
    "client": "c",
    "width": 8,
    "height": 6,
    "connected": True,
    "started_at_secs": 1.0,
    "duration_secs": 1.0,
    "frames_received": 1,
    "frames_answered": 1,
    "messages_refused": 0,
    "latency_p50_ms": None,
    "latency_p99_ms": None,
    "model_version": None,
}
COUNTERS = Counters(
    frames_received=0,
    frames_answered=0,
    frames_dropped=0,
    messages_refused=0,
    bytes_up=0,
    bytes_down=0,
)

TOLD_SECS = 3.0
"""Longer than the pages wait by themselves."""
WATCH = """async id => { (await import("/game/views.js")).watch(id, { refused: () => {} }); }"""

WIDTHS = """async width => {
  const { draw, layersOf } = await import("/pictures.js");
  const canvases = {}, made = [], create = document.createElement.bind(document);
  const names = ["rebuilt", "sent", "next", "truth", "error"];
  for (const name of names) canvases[name] = create("canvas");
  const rebuilt = new OffscreenCanvas(width, 4);
  rebuilt.getContext("2d").fillRect(0, 0, width, 4);
  const png = await rebuilt.convertToBlob({ type: "image/png" });
  const header = { width, height: 4, importance: null };
  const samples = Uint8Array.of(0, 128, 0, 128, 200, 1);
  document.createElement = name => { made.push(create(name)); return made.at(-1); };
  const layers = await layersOf({ header, samples, reconstruction: png }, null);
  const widths = [];
  for (const shown of [[], ["samples"], ["samples"], []]) {
    draw(canvases, layers, new Set(shown), 1);
    widths.push([made.map(canvas => canvas.width), canvases.rebuilt.width]);
  }
  return widths;
}"""
"""After each drawing: the canvases that were made for a frame, and what is shown."""
COUNT = """{
  const decode = createImageBitmap, create = document.createElement.bind(document);
  const count = (pictures, type) => pictures.filter(one => one instanceof type).length;
  const made = [];
  Object.assign(window, { asked: 0, decoding: null });
  window.createImageBitmap = async (...given) => {
    asked += 1;
    await decoding;
    made.push(await decode(...given));
    return made.at(-1);
  };
  document.createElement = name => {
    const one = create(name);
    if (name === "canvas") made.push(one);
    return one;
  };
  window.kept = () => {
    const kept = made.filter(one => one.width && !one.isConnected);
    return [made.length, count(kept, ImageBitmap), count(kept, HTMLCanvasElement)];
  };
}"""
"""What was made to draw from, and the bitmaps and canvases of it that hold pixels still."""
HOLD = "() => { decoding = new Promise(go => { window.decode = go; }); }"
UNDECODABLE = "What the gateway shows is no picture that this browser can decode"

NOTHING_KEPT = """for (const name of ["localStorage", "sessionStorage"]) {
  const get = () => { throw new DOMException("denied", "SecurityError"); };
  Object.defineProperty(window, name, { get });
}"""
MARKS = """async names => {
  const { Charts } = await import("/session-charts.js");
  const charts = new Charts(document.createElement("div"));
  const [stages_ms, parts] = [{ queue: 1, inference: 1, answer: 1 }, { samples: 6 }];
  return names.map(([session_id, model_version]) => {
    charts.add({ session_id, model_version, stages_ms, parts, predicted_psnr: 1, counters: {} });
    return charts.marks.length;
  });
}"""
"""Swaps that are marked after a frame of each session and version."""


FIGURES = """async () => {
  const { Charts } = await import("/session-charts.js");
  const box = document.querySelector("#charts"), charts = new Charts(box);
  const stages_ms = { queue: 1, inference: 1, answer: 1 }, parts = { samples: 6 };
  const header = { session_id: "a", model_version: "v1", stages_ms, parts, counters: {} };
  const told = nowMs => {
    charts.draw(nowMs);
    return [...box.querySelectorAll("b")].slice(-18).map(one => one.textContent);
  };
  const startedAtMs = performance.now();
  charts.add({ ...header, predicted_psnr: 30, measured_psnr: 40 });
  const measured = told(startedAtMs);
  while (performance.now() === startedAtMs) await new Promise(requestAnimationFrame);
  charts.add({ ...header, predicted_psnr: 15, measured_psnr: null });
  return [measured, told(performance.now()), told(performance.now() + 60_001)];
}"""
"""Of all charts: of a frame that was measured, of one that was not, and a minute later."""
CONTRAST = """selector => {
  const drawing = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const luminance = (...colours) => {
    for (drawing.fillStyle of colours) drawing.fillRect(0, 0, 1, 1);
    const linear = [...drawing.getImageData(0, 0, 1, 1).data].map(value => value / 255)
      .map(value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const one = getComputedStyle(document.querySelector(selector));
  const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
  const [dark, light] = [luminance(one.color), luminance(card, one.backgroundColor)].sort();
  return (light + .05) / (dark + .05);
}"""
"""WCAG 2.2: of a text on a card, 4.5 at least."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pages() as address:
        yield address


def refuse_views(page: Page, **error: Any) -> list[float]:
    """Every viewer is sent away like this; when they came."""
    came: list[float] = []

    def refuse(socket: WebSocketRoute) -> None:
        came.append(time.monotonic())
        socket.send(json.dumps({"type": "error", "fatal": True, **error}))
        socket.close(code=1008)

    page.route_web_socket("**/ws/view/*", refuse)
    return came


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


def test_a_viewer_whose_token_is_refused_stays_away(tab: Tab, url: str) -> None:
    came = refuse_views(tab.page, code="unauthorized", message="wrong token")
    list_sessions(tab.page)
    tab.page.goto(url)
    tab.page.evaluate(WATCH, SESSION_ID)
    tab.page.wait_for_timeout(2500)
    assert len(came) == 1


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


def test_a_token_that_no_header_can_hold_is_a_wrong_one(tab: Tab, url: str) -> None:
    page, why = tab.page, tab.page.locator("#ask-why")
    page.route("**/api/sessions", lambda route: route.fulfill(status=401))
    page.goto(url)
    page.locator("#token").fill("se\u200bcret")
    page.locator("#token").press("Enter")
    expect(why).to_have_text("That token is wrong.")
    expect(page.locator("#ask")).to_be_visible()
    page.reload()
    expect(why).to_have_text("That token is wrong.")
    tab.troubles = [trouble for trouble in tab.troubles if "401" not in trouble]


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


BLACK = png(np.zeros((6, 8), np.uint8))
SAMPLE = bytes(6)


def view_of(
    session_id: str,
    value: float = 1.0,
    *,
    frame_id: int = 1,
    picture: bytes = BLACK,
    truth: bytes = b"",
    size: tuple[int, int] = (8, 6),
) -> bytes:
    """A frame of one sample with this state value."""
    header = ViewHeader(
        session_id=session_id,
        frame_id=frame_id,
        model_version="v1",
        width=size[0],
        height=size[1],
        predicted_psnr=20,
        measured_psnr=None,
        received_at=1,
        stages_ms=StagesMs(queue=1, inference=1, answer=1),
        counters=COUNTERS,
        state=[value],
        importance=ImportanceShown(frame_id=frame_id, width=1, height=1),
        true_frame="png" if truth else None,
        parts=Parts(
            reconstruction=len(picture),
            samples=len(SAMPLE),
            importance=1,
            true_frame=len(truth),
        ),
    )
    view = View(
        header=header,
        reconstruction=picture,
        samples=SAMPLE,
        importance=b"\x00",
        true_frame=truth,
    )
    return encode_view(view)


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


def watched(page: Page, url: str, *others: dict[str, Any]) -> WebSocketRoute:
    """The live page's socket, with one session to look at, and others that are older."""
    viewers: list[WebSocketRoute] = []
    page.route_web_socket("**/ws/view/*", lambda one: viewers.append(one))  # noqa: PLW0108
    list_sessions(page, SESSION, *others)
    page.goto(url)
    return eventually(page, lambda: viewers)[0]


OTHER = {**SESSION, "session_id": OTHER_ID, "checkpoint_key": "other", "started_at_secs": 0.5}
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


def test_what_is_old_is_charted_no_more_and_a_newer_figure_is_told_first(
    tab: Tab, url: str
) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    measured, expected, later = tab.page.evaluate(FIGURES)
    assert measured[:3] == ["40.0 dB", "30.0 dB", "40.0 dB"]
    assert expected[:3] == ["15.0 dB", "15.0 dB", "40.0 dB"]
    assert measured[3:7] == expected[3:7] == ["3 ms", "1 ms", "1 ms", "1 ms"]
    assert measured[-2:] == expected[-2:] == ["v1", "0"]
    assert later == ["–"] * 18


def test_the_charts_of_a_paused_page_stand_still(tab: Tab, url: str) -> None:
    page, figure = tab.page, tab.page.locator(".chart b").first
    page.clock.install()
    watched(page, url).send(view_of(SESSION_ID))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(500)
    expect(figure).to_have_text("20.0 dB")
    page.clock.fast_forward(70_000)
    page.clock.run_for(500)
    expect(page.locator("#age")).to_have_text("71 s old")
    expect(figure).to_have_text("20.0 dB")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(500)
    expect(figure).to_have_text("–")


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
    turned = png(np.zeros((8, 6), np.uint8))
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
    page.unroute_all()
    page.route("**/api/sessions", lambda route: route.abort())
    expect(words).to_contain_text("does not answer")
    parts = (str(status), "ERR_FAILED")  # the browser's own lines
    tab.troubles = [t for t in tab.troubles if not any(part in t for part in parts)]


def test_nobody_is_asked_for_a_token_that_is_wanted_no_more(tab: Tab, url: str) -> None:
    page = tab.page
    page.route("**/api/sessions", lambda route: route.fulfill(status=401))
    page.goto(url)
    expect(page.locator("#ask")).to_be_visible()
    list_sessions(page)
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator("#state-text")).to_contain_text("Nobody plays")
    tab.troubles = [trouble for trouble in tab.troubles if "401" not in trouble]


def test_a_token_that_the_pictures_want_can_be_entered_in_peace(tab: Tab, url: str) -> None:
    """Where a proxy adds the token to requests, which it cannot to a socket's messages."""
    page, token = tab.page, tab.page.locator("#token")
    came = refuse_views(page, code="unauthorized", message="wrong token")
    list_sessions(page, SESSION)
    page.goto(url)
    token.fill("half of i")
    page.wait_for_timeout(2500)
    expect(token).to_be_visible()
    expect(token).to_have_value("half of i")
    assert len(came) == 1


def test_a_long_value_stays_within_a_phone(chromium: Browser, url: str) -> None:
    with open_tab(chromium, PHONE) as phone:
        watched(phone.page, url).send(view_of(SESSION_ID, -1764489915.123))
        expect(phone.page.locator("#vector")).to_contain_text("-1764489915.123")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_numbers_badge_can_be_read(tab: Tab, url: str, colours: Any) -> None:
    list_sessions(tab.page)
    tab.page.emulate_media(color_scheme=colours)
    tab.page.goto(url)
    assert tab.page.evaluate(CONTRAST, ".picture figcaption i") >= 4.5


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


def test_pictures_are_freed_when_newer_ones_are_shown(tab: Tab, url: str) -> None:
    page = tab.page
    page.add_init_script(COUNT)
    viewer = watched(page, url)
    overlays = page.locator(".overlays [type=checkbox]")
    for n in range(overlays.count()):
        overlays.nth(n).check()
    for frame_id in range(5):
        truth = b"" if frame_id % 2 else BLACK
        viewer.send(view_of(SESSION_ID, frame_id=frame_id, truth=truth))
        expect(page.locator("#rebuilt-text")).to_contain_text(f"frame {frame_id} ")
        # The rebuilt frame and the true one; samples, marks, map and error, and one to compute on.
        assert page.evaluate("kept()")[1:] == [2, 5]
        page.locator("#opacity").fill(str(frame_id))  # draws them again


def test_a_picture_that_nobody_waits_for_any_more_is_freed(tab: Tab, url: str) -> None:
    page = tab.page
    page.add_init_script(COUNT)
    viewer = watched(page, url)
    viewer.send(view_of(SESSION_ID, truth=BLACK))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")
    before = page.evaluate("kept()")
    page.evaluate(HOLD)
    viewer.send(view_of(SESSION_ID, frame_id=2))
    page.wait_for_function("asked === 4")  # two of them to compare
    page.get_by_role("button", name="Pause").click()
    page.evaluate("decode()")
    page.wait_for_function("made => kept()[0] === made", arg=before[0] + 3)
    assert page.evaluate("kept()")[1:] == before[1:]
    page.get_by_label("True frame", exact=True).check()
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")


def test_a_picture_that_cannot_be_decoded_is_told_until_one_is_shown(tab: Tab, url: str) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    viewer = watched(page, url)
    viewer.send(view_of(SESSION_ID, picture=b"no PNG", truth=BLACK))
    expect(words).to_have_text(UNDECODABLE)
    viewer.send(view_of(SESSION_ID, frame_id=2))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 2 ")
    expect(words).not_to_have_text(UNDECODABLE)


def test_a_true_frame_that_cannot_be_decoded_costs_the_comparison_alone(tab: Tab, url: str) -> None:
    page, viewer = tab.page, watched(tab.page, url)
    compared = {1: "none came yet", 2: "sent now and then", 3: "sent now and then"}
    for frame_id, said in compared.items():
        truth = BLACK if frame_id == 2 else b"no PNG"
        viewer.send(view_of(SESSION_ID, frame_id=frame_id, truth=truth))
        expect(page.locator("#rebuilt-text")).to_contain_text(f"frame {frame_id} ")
        expect(page.locator("#truth-text")).to_contain_text(said)
    expect(page.locator("#truth-age")).to_have_text("of frame 2")
    expect(page.locator("#state-text")).not_to_have_text(UNDECODABLE)


def test_another_sessions_version_is_no_swap(tab: Tab, url: str) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    assert tab.page.evaluate(MARKS, ["a1", "b2", "a1"]) == [0, 0, 0]
    assert tab.page.evaluate(MARKS, ["a1", "a2", "b2"]) == [0, 1, 0]


@pytest.mark.parametrize(("width", "marks"), [(640, 1920), (641, 641)])
def test_samples_are_marked_once_and_only_where_they_are_shown(
    tab: Tab, url: str, width: int, marks: int
) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    plain, over = [[width], width], [[width, marks], marks]
    assert tab.page.evaluate(WIDTHS, width) == [plain, over, over, [[width, marks], width]]
