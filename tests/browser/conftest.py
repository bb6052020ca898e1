"""Pages in a real Chromium, the one of Debian; nothing is downloaded.

Tests of this folder are not async: playwright's loop would run inside theirs. A tool that is
missing skips the tests at home and fails them in CI.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from e2e.conftest import System, start_system
from gateway.app import PAGE
from ports import free_port
from sgaps.site import Site
from tools import require_tool

DESKTOP, PHONE = (1280, 800), (390, 844)
ARGUMENTS = ("--no-sandbox", "--enable-unsafe-swiftshader", "--disable-background-networking")
"""CI is root, which Chromium's sandbox does not take, and has no GPU for WebGL."""
TIMEOUT_MS = 20_000
SESSION_ID = "0123456789abcdef"
SLOW_MS = 60_000
"""For what a busy machine needs several turns of the whole loop."""

WATCH_WORDS = """() => {
  window.said = [];
  const what = { childList: true, characterData: true, subtree: true };
  for (const at of document.querySelectorAll("output, [role=status], [role=alert]"))
    new MutationObserver(() => { window.said.push(at.id); }).observe(at, what);
}"""
"""What a screen reader would say again."""


@dataclass
class Tab:
    """A page and what went wrong on it. Not frozen: playwright keeps its handlers here."""

    page: Page
    troubles: list[str] = field(default_factory=list)
    """Errors on the console, exceptions, requests to somewhere else; a test that causes some
    itself clears them."""

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(message.text)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"blob", "data"} and parts.hostname != "127.0.0.1":
            self.troubles.append(f"a request to {request.url}")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    program = require_tool("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def open_tab(chromium: Browser, size: tuple[int, int] = DESKTOP) -> Iterator[Tab]:
    """A tab with storage of its own. At its end nothing may have gone wrong on it."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark",
        has_touch=size == PHONE,
    )
    expect.set_options(timeout=TIMEOUT_MS)
    context.set_default_timeout(TIMEOUT_MS)
    tab = Tab(context.new_page())
    tab.watch()
    try:
        yield tab
        assert tab.troubles == []
    finally:
        context.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    with open_tab(chromium) as opened:
        yield opened


@contextmanager
def pages(folder: Path = PAGE) -> Iterator[str]:
    """The gateway's pages, or others, without their server; their address."""
    port = free_port()
    pages_alone = Starlette(routes=[Mount("/", Site(folder))])
    server = uvicorn.Server(uvicorn.Config(pages_alone, port=port, log_level="error"))
    serving = threading.Thread(target=lambda: asyncio.run(server.serve()))
    serving.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        serving.join()


@pytest.fixture(scope="package")
def url() -> Iterator[str]:
    """Of the gateway's pages without a gateway."""
    with pages() as address:
        yield address


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`sgaps up` for all tests of this folder, with nobody playing."""
    data_dir = tmp_path_factory.mktemp("data")
    # No training beside the tests, and true frames often enough for a slow machine.
    quick = ("training.min_new_frames=100000", "server.keyframe_interval=2")
    running, process = start_system(data_dir, *(part for one in quick for part in ("--set", one)))
    try:
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        ended = process.wait(120)
    assert ended == 0


def words_said_again(page: Page) -> list[str]:
    """The ids of what is said while nothing happens on the page."""
    page.evaluate(WATCH_WORDS)
    page.wait_for_timeout(1500)
    said: list[str] = page.evaluate("said")
    return said


def list_sessions(page: Page, *sessions: dict[str, Any]) -> None:
    """All that the page hears of, beside a gateway that the test plays. The newest route counts."""
    page.route("**/api/sessions", lambda route: route.fulfill(json=sessions))


@contextmanager
def playing(system: System, source: str = "doom/my_way_home") -> Iterator[subprocess.Popen[str]]:
    """A game that plays meanwhile."""
    game = system.start_play(source)
    try:
        yield game
    finally:
        game.send_signal(signal.SIGINT)
        game.communicate(timeout=30)
