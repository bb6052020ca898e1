"""The pages without a gateway: the tests say what one would, and when."""

from __future__ import annotations

import json
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


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pages() as address:
        yield address


def list_sessions(page: Page, *sessions: dict[str, Any]) -> None:
    page.unroute_all()
    page.route("**/api/sessions", lambda route: route.fulfill(json=sessions))


def refuse_views(page: Page, **error: Any) -> list[str]:
    """Every viewer is sent away like this; the addresses of those who came."""
    came: list[str] = []

    def refuse(socket: WebSocketRoute) -> None:
        came.append(socket.url)
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
