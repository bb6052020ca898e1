"""The game in a real Chromium against the whole system: the loop that a visitor sees is closed."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from websockets.sync.client import connect

from browser.conftest import PHONE, Tab, open_tab
from browser.game_page import (
    eventually,
    game,
    remember_states,
    state_of,
    wait_for_passing,
    wait_for_state,
)
from e2e.conftest import System
from proxy import Proxy
from sgaps.protocol.views import View, decode_view, unpack_samples
from sgaps.sampling.footprints import sample_image

QUALITY_FRAMES = 25
BETTER_THAN_FLAT_DB = 3
BETTER_THAN_PRIOR_DB = 0.3
CUT = ("WebSocket connection to", "ERR_", "Failed to load resource")
"""What it says of connections that a test cuts."""


def fact(page: Page, name: str) -> tuple[str, str]:
    """A figure below the pictures, and the words under it."""
    box = page.locator(
        "#facts div", has=page.locator("dt", has_text=re.compile("^" + re.escape(name)))
    )
    value, detail = box.locator("dd").inner_text().split("\n", 1)
    return value, detail


def session_of(page: Page, system: System) -> dict[str, Any] | None:
    """The page's session, as the gateway has it."""
    shown = fact(page, "Session")[0]
    sessions: list[dict[str, Any]] = system.get("/api/sessions")
    return next((one for one in sessions if one["session_id"].startswith(shown)), None)


def the_session(page: Page, system: System) -> dict[str, Any]:
    return eventually(page, lambda: session_of(page, system))


def wait_for_answers(page: Page, system: System, count: int) -> dict[str, Any]:
    """Until so many more frames are answered; the session then."""
    first = the_session(page, system)["frames_answered"]

    def look() -> dict[str, Any] | None:
        session = the_session(page, system)
        return session if session["frames_answered"] >= first + count else None

    return eventually(page, look)


def picture(page: Page, canvas: str) -> str:
    return str(page.evaluate("id => document.getElementById(id).toDataURL()", canvas))


def seen(page: Page, system: System) -> View:
    """What the server knows of the newest frame: by the socket that viewers have."""
    session_id = the_session(page, system)["session_id"]
    with connect(f"ws://127.0.0.1:{system.port}/ws/view/{session_id}", max_size=None) as socket:
        socket.send(json.dumps({"type": "view_start"}))
        for raw in socket:
            if isinstance(raw, bytes):
                return decode_view(raw)
    raise AssertionError("the view ended")


def quality_db(page: Page) -> tuple[float, float, float] | None:
    """Rebuilt, interpolated, flat gray: the means of the last seconds."""
    value, detail = fact(page, "Rebuilt")
    numbers = re.findall(r"[\d.]+", f"{value} {detail}")
    return (float(numbers[0]), float(numbers[1]), float(numbers[2])) if len(numbers) == 3 else None


def raw_share(page: Page) -> int:
    """How many times as long as the samples raw video would be; 0 while that is not known."""
    found = re.match(r"1/(\d+) of raw", fact(page, "Samples, a second")[1])
    return int(found[1]) if found else 0


def test_the_reconstruction_is_better_than_its_prior_and_far_better_than_gray(
    tab: Tab, system: System
) -> None:
    with game(tab, system.http_url) as page:
        eventually(page, lambda: quality_db(page))
        measured = []
        for _ in range(QUALITY_FRAMES // 5):
            wait_for_answers(page, system, 5)
            measured.append(eventually(page, lambda: quality_db(page)))
        ours, prior, flat = (sum(values) / len(values) for values in zip(*measured, strict=True))
    assert ours > prior + BETTER_THAN_PRIOR_DB
    assert ours > flat + BETTER_THAN_FLAT_DB


def test_what_is_seen_and_asked_for_changes(tab: Tab, system: System) -> None:
    canvases = ("game", "places", "reconstruction", "prior", "painted", "error", "heat")
    with game(tab, system.http_url) as page:
        wait_for_answers(page, system, 3)
        before = {canvas: picture(page, canvas) for canvas in canvases[1:]}
        wait_for_answers(page, system, 6)
        for canvas in canvases[1:]:
            assert picture(page, canvas) != before[canvas], canvas
        session = the_session(page, system)
        view = seen(page, system)
        eventually(page, lambda: raw_share(page) == 320 * 240 // (36 + 11 * 4 + 500))
    assert (session["client"], session["width"], session["height"]) == ("browser-game", 320, 240)
    assert session["messages_refused"] == 0
    assert view.header.predicted_psnr is not None
    assert len(view.header.state) == 11


def test_the_samples_are_those_of_the_keyframe_to_the_byte(tab: Tab, system: System) -> None:
    """A whole frame and its samples are read by ways of their own; they agree."""
    with game(tab, system.http_url) as page:
        view = eventually(page, lambda: v if (v := seen(page, system)).true_frame else None)
    whole = cv2.imdecode(np.frombuffer(view.true_frame, np.uint8), cv2.IMREAD_GRAYSCALE)
    samples = unpack_samples(view.samples)
    expected = sample_image(np.asarray(whole, np.uint8), samples[:, [0, 1, 3]])
    np.testing.assert_array_equal(np.round(samples[:, 2] * 255), np.round(expected[:, 2] * 255))


def test_keys_steer_and_without_them_it_plays_itself(tab: Tab, system: System) -> None:
    def speeds() -> tuple[float, float]:
        forward, turn = seen(page, system).header.state[4:6]
        return float(forward or 0), float(turn or 0)

    with game(tab, system.http_url) as page:
        assert page.inner_text("#pilot") == "plays itself"
        for key, is_so in {
            "ArrowLeft": lambda: speeds()[1] < -0.5,
            "KeyD": lambda: speeds()[1] > 0.5,
            "ArrowDown": lambda: speeds()[0] < -0.5,
        }.items():
            page.keyboard.down(key)
            eventually(page, is_so)
            assert page.inner_text("#pilot") == "you steer"
            page.keyboard.up(key)
        eventually(page, lambda: page.inner_text("#pilot") == "plays itself")
        eventually(page, lambda: speeds()[0] > 0.2)


def test_the_wishes_are_heard(tab: Tab, system: System) -> None:
    with game(tab, system.http_url) as page:
        before = wait_for_answers(page, system, 2)
        page.locator("#samples").fill("200")
        page.select_option("#placement", "even")
        eventually(page, lambda: fact(page, "Frames")[1] == "200 samples each")
        wait_for_answers(page, system, 3)
        assert len(seen(page, system).samples) == 6 * 200
        eventually(page, lambda: raw_share(page) > 200)
        page.locator("#fps").fill("2")
        page.select_option("#form", "sgaps.v1.json")
        eventually(page, lambda: 0 < raw_share(page) < 30)
        eventually(page, lambda: float(fact(page, "Frames")[0].split()[0]) < 3)
        session = wait_for_answers(page, system, 3)
    assert session["session_id"] == before["session_id"]
    assert session["messages_refused"] == 0


class Cut:
    """A proxy before the gateway, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.proxy = Proxy(target_port=port, slow_secs=0)
        asyncio.run_coroutine_threadsafe(self.proxy.start(), self._loop).result(10)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self.proxy.hurt, "cut")

    def heal(self) -> None:
        self._loop.call_soon_threadsafe(self.proxy.heal)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.proxy.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def way(system: System) -> Iterator[Cut]:
    cut = Cut(system.port)
    yield cut
    cut.stop()


def test_a_cut_connection_is_said_and_its_session_goes_on(
    tab: Tab, system: System, way: Cut
) -> None:
    with game(tab, f"http://127.0.0.1:{way.proxy.port}", caused=CUT) as page:
        before = wait_for_answers(page, system, 3)
        way.cut()
        assert wait_for_state(page, "lost").startswith("No connection: ")
        page.wait_for_timeout(1500)
        assert state_of(page)[0] != "live"  # it tries again and again
        way.heal()
        assert "resumed 1 ×" in wait_for_state(page, "live")
        after = wait_for_answers(page, system, 3)
        picture_then = picture(page, "reconstruction")
        wait_for_answers(page, system, 3)
        eventually(page, lambda: picture(page, "reconstruction") != picture_then)
    assert after["session_id"] == before["session_id"]
    assert after["last_frame_id"] > before["last_frame_id"]


def test_a_gateway_that_restarts_is_come_back_to(tab: Tab, system: System) -> None:
    with game(tab, system.http_url, caused=CUT) as page:
        before = wait_for_answers(page, system, 3)
        remember_states(page)
        system.kill("gateway")
        wait_for_passing(page, "lost")
        wait_for_state(page, "live")
        after = wait_for_answers(page, system, 3)
    assert after["session_id"] == before["session_id"]
    assert after["last_frame_id"] > before["last_frame_id"]


def test_a_phone_shows_it_and_a_finger_steers(chromium: Browser, system: System) -> None:
    with open_tab(chromium, PHONE) as tab, game(tab, system.http_url) as page:
        wait_for_answers(page, system, 3)
        overflow = "document.documentElement.scrollWidth - innerWidth"
        assert page.evaluate(overflow) <= 0
        screen = page.locator("#screen").bounding_box()
        assert screen is not None
        assert screen["width"] > 300
        x, y = screen["x"] + screen["width"] / 2, screen["y"] + screen["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 90, y - 10)
        eventually(page, lambda: page.inner_text("#pilot") == "you steer")
        page.mouse.up()
