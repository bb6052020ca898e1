"""The pages without a gateway: the tests say what one would, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from browser.conftest import SESSION_ID, Tab, list_sessions, words_said_again
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
) -> bytes:
    """A frame of one sample with this state value."""
    header = ViewHeader(
        session_id=session_id,
        frame_id=frame_id,
        model_version="v1",
        width=8,
        height=6,
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


def watched(page: Page, url: str) -> WebSocketRoute:
    """The live page's socket, with one session to look at."""
    viewers: list[WebSocketRoute] = []
    page.route_web_socket("**/ws/view/*", lambda one: viewers.append(one))  # noqa: PLW0108
    list_sessions(page, SESSION)
    page.goto(url)
    return eventually(page, lambda: viewers)[0]


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
