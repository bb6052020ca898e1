"""The pages without a gateway: the tests say what one would, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from browser.conftest import Tab
from browser.walks import pages

pytestmark = pytest.mark.e2e

SESSION_ID = "0123456789abcdef"
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


TOLD_SECS = 3.0
"""Longer than the pages wait by themselves."""
WATCH = """async id => { (await import("/game/views.js")).watch(id, () => {}); }"""

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


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pages() as address:
        yield address


def list_sessions(page: Page, *sessions: dict[str, Any]) -> None:
    page.unroute_all()
    page.route("**/api/sessions", lambda route: route.fulfill(json=sessions))


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


def test_a_viewer_whose_token_is_refused_stays_away(tab: Tab, url: str) -> None:
    came = refuse_views(tab.page, code="unauthorized", message="wrong token")
    list_sessions(tab.page)
    tab.page.goto(url)
    tab.page.evaluate(WATCH, SESSION_ID)
    tab.page.wait_for_timeout(2500)
    assert len(came) == 1


@pytest.mark.parametrize(("width", "marks"), [(640, 1920), (641, 641)])
def test_samples_are_marked_once_and_only_where_they_are_shown(
    tab: Tab, url: str, width: int, marks: int
) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    plain, over = [[width], width], [[width, marks], marks]
    assert tab.page.evaluate(WIDTHS, width) == [plain, over, over, [[width, marks], width]]
