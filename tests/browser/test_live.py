"""The live page on a running system and a real game, as people see it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from browser.conftest import PHONE, SLOW_MS, TIMEOUT_MS, Tab, open_tab, playing
from e2e.conftest import System
from sgaps.settings import Settings
from toy_models import publish

KEY = "doom-my_way_home"
PICTURES = ("rebuilt", "sent", "next", "truth", "error")
PICTURE = "id => document.getElementById(id).toDataURL()"
LUMA = """id => {
  const canvas = document.getElementById(id);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...data].filter((_, index) => index % 4 === 0);
}"""
COMPARISON = """() => {
  const lumaOf = id => {
    const canvas = document.getElementById(id);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [...data].filter((_, index) => index % 4 === 0);
  };
  const told = document.getElementById("rebuilt-text").textContent.match(/([0-9.]+) dB measured/);
  const isOfThisFrame = document.getElementById("truth-age").hidden;
  return told && isOfThisFrame
    && { psnr_db: told[1], rebuilt: lumaOf("rebuilt"), truth: lumaOf("truth") };
}"""
ALL_NUMBERS = """() =>
  [...document.querySelectorAll(".chart b")].every(one => /[0-9]/.test(one.textContent))"""
HANG = """() => {
  setTimeout(() => { const end = Date.now() + 5000; while (Date.now() < end); });
}"""
CHARTS = "() => [...document.querySelectorAll('.chart canvas')].map(one => one.toDataURL())"


@pytest.fixture(scope="module")
def doom(system: System) -> Iterator[None]:
    with playing(system):
        yield


def wait_for_state(page: Page, state: str) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", state, timeout=SLOW_MS)


@pytest.fixture
def live(tab: Tab, system: System, doom: None) -> Tab:
    """The page, with a picture."""
    tab.page.goto(system.http_url)
    wait_for_state(tab.page, "live")
    return tab


def picture(page: Page, name: str) -> str:
    """What a canvas shows, as a PNG in a data URL."""
    return str(page.evaluate(PICTURE, name))


def luma(page: Page, name: str) -> NDArray[np.float64]:
    """The red channel: all that is gray has it."""
    return np.array(page.evaluate(LUMA, name), np.float64)


def changes(look: Callable[[], Any], count: int = 2) -> bool:
    """Whether it shows something new so many times."""
    seen, deadline_secs = [look()], time.monotonic() + SLOW_MS / 1000
    while len(seen) <= count and time.monotonic() < deadline_secs:
        time.sleep(0.1)
        newest = look()
        if newest != seen[-1]:
            seen.append(newest)
    return len(seen) > count


def test_the_pictures_move(live: Tab) -> None:
    expect(live.page.locator("#truth-text")).to_contain_text("to train", timeout=SLOW_MS)
    for name in PICTURES:
        assert len(np.unique(luma(live.page, name))) > 10
        assert changes(partial(picture, live.page, name))


def test_the_true_frame_is_that_of_the_rebuilt_one(live: Tab) -> None:
    """The gateway's PSNR is what the pixels on the page give: they are of one frame."""
    comparison = live.page.wait_for_function(COMPARISON, timeout=SLOW_MS).json_value()
    rebuilt, truth = (np.array(comparison[name], np.float64) for name in ("rebuilt", "truth"))
    psnr_db = 10 * np.log10(255**2 / np.square(rebuilt - truth).mean())
    assert psnr_db == pytest.approx(float(comparison["psnr_db"]), abs=0.06)


def test_the_charts_move_and_say_numbers(live: Tab) -> None:
    values = live.page.locator(".chart b")
    live.page.wait_for_function(ALL_NUMBERS, timeout=SLOW_MS)
    assert values.count() == 18
    before = live.page.evaluate(CHARTS)
    assert len(before) == 6
    assert changes(lambda: live.page.evaluate(CHARTS))
    label = live.page.locator(".chart canvas").first.get_attribute("aria-label")
    assert label is not None
    assert label.startswith("Quality, PSNR: expected by the model")


def test_overlays_lie_over_the_rebuilt_frame(live: Tab) -> None:
    page = live.page
    expect(page.locator("#truth-text")).to_contain_text("to train", timeout=SLOW_MS)
    page.get_by_role("button", name="Pause").click()
    wait_for_state(page, "paused")
    page.wait_for_timeout(500)  # for the frame that was on its way
    plain = picture(page, "rebuilt")
    seen = [plain]
    for name in ("Samples", "Asked for next", "True frame", "Error"):
        page.get_by_label(name, exact=True).check()
        seen.append(picture(page, "rebuilt"))
        page.get_by_label("Opacity").fill("20")
        seen.append(picture(page, "rebuilt"))
        page.get_by_label(name, exact=True).uncheck()
        page.get_by_label("Opacity").fill("60")
        assert picture(page, "rebuilt") == plain
    assert len(set(seen)) == 9
    expect(page.locator("#rebuilt-age")).to_contain_text("s old")
    page.get_by_role("button", name="Pause").click()
    wait_for_state(page, "live")


def test_the_samples_are_drawn_where_the_game_was_asked_for_them(live: Tab) -> None:
    expect(live.page.locator("#sent-text")).to_contain_text("500 samples")
    assert changes(lambda: picture(live.page, "sent"))


def test_the_state_vector_and_the_session_are_told(live: Tab) -> None:
    expect(live.page.locator("#vector li")).to_have_count(12)
    expect(live.page.locator("#facts")).to_contain_text(KEY)


def test_a_second_viewer_sees_it_too_and_one_that_hangs_slows_nobody(
    live: Tab, chromium: Browser, system: System
) -> None:
    with open_tab(chromium) as second:
        second.page.goto(system.http_url)
        wait_for_state(second.page, "live")
        second.page.evaluate(HANG)
        hung_at_secs = time.monotonic()
        assert changes(lambda: picture(live.page, "rebuilt"), count=3)
        assert changes(lambda: picture(second.page, "rebuilt"))
        assert time.monotonic() - hung_at_secs > 5
        wait_for_state(second.page, "live")


def test_a_lost_gateway_is_shown_and_recovered_from(live: Tab, system: System) -> None:
    page = live.page
    # Frozen first: the page must find out by itself, and no restart is too quick for it to see.
    os.kill(system.process_of("gateway"), signal.SIGSTOP)
    wait_for_state(page, "lost")
    expect(page.locator("#state-text")).to_contain_text("does not answer")
    expect(page.locator("#rebuilt-age")).to_contain_text("s old")
    assert "grayscale" in page.locator("#rebuilt").evaluate("one => getComputedStyle(one).filter")
    system.kill("gateway")
    wait_for_state(page, "live")
    expect(page.locator("#rebuilt-age")).to_be_hidden()
    assert changes(lambda: picture(page, "rebuilt"))
    # Only that the browser could not reach the gateway.
    assert all("Failed to load" in text or "WebSocket" in text for text in live.troubles)
    live.troubles.clear()


def test_a_hot_swap_leaves_a_mark(live: Tab, system: System, default_settings: Settings) -> None:
    manifest = publish(system.data_dir / "checkpoints", KEY, shape=default_settings.model)
    model = live.page.locator(".chart", has_text="swaps in this minute")
    expect(model).to_contain_text(manifest.model_version, timeout=SLOW_MS)
    expect(model).to_contain_text("swaps in this minute 1")


def test_the_keyboard_reaches_everything_in_order(live: Tab) -> None:
    page = live.page
    reached: list[tuple[str, str]] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const one = document.activeElement;
              return [one.id || one.name || one.textContent.trim() || one.ariaLabel,
                      getComputedStyle(one.closest(".toggle") ?? one).outlineStyle];
            }"""
        )
        if reached and focused[0] == reached[0][0]:
            break
        reached.append(tuple(focused))
    names = [name for name, _ in reached]
    in_order = ["Skip to the pictures", "sessions", "pause", "samples", "next", "truth", "error"]
    assert [name for name in names if name in in_order] == in_order
    assert "opacity" in names
    count = page.locator("a:visible, button:visible, select:visible, input:visible").count()
    assert len({name for name in names if name}) >= count - 1  # the browser's own stop is no part
    assert {outline for name, outline in reached if name in in_order} <= {"solid", "auto"}
    page.get_by_label("Samples", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("Samples", exact=True)).to_be_checked()


def test_the_colours_follow_the_system_and_a_switch(live: Tab) -> None:
    page = live.page
    background = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(background)
    assert dark != light
    page.locator("[data-theme-switch]").click()
    assert page.evaluate(background) == dark
    page.reload()
    assert page.evaluate(background) == dark


def test_a_phone_shows_it_without_scrolling_sideways(
    chromium: Browser, system: System, doom: None
) -> None:
    with open_tab(chromium, PHONE) as phone:
        phone.page.goto(system.http_url)
        wait_for_state(phone.page, "live")
        expect(phone.page.locator("#facts")).to_contain_text(KEY)
        assert phone.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
        for name in PICTURES:
            box = phone.page.locator(f"#{name}").bounding_box()
            assert box is not None
            assert box["width"] > 150
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE[0]


LEFT = re.compile("The game has left|Nobody plays")
"""The second where the gateway knows no other session."""


def test_a_game_that_leaves_is_not_shown_as_live(tab: Tab, system: System) -> None:
    with playing(system, "atari/pong"):
        tab.page.goto(system.http_url)
        tab.page.wait_for_function(
            "() => [...document.querySelectorAll('#sessions option')]"
            ".some(one => one.text.startsWith('atari-pong'))",
            timeout=SLOW_MS,
        )
        pong = tab.page.locator("#sessions option", has_text="atari-pong").last
        chosen = pong.get_attribute("value")
        tab.page.locator("#sessions").select_option(chosen)
        expect(tab.page.locator("#facts")).to_contain_text("atari-pong")
        expect(tab.page.locator("#vector li").first).to_be_visible(timeout=SLOW_MS)
        wait_for_state(tab.page, "live")
        aspect = tab.page.locator("#rebuilt").evaluate("one => one.width / one.height")
    wait_for_state(tab.page, "stale")
    expect(tab.page.locator("#state-text")).to_have_text(LEFT, timeout=TIMEOUT_MS)
    expect(tab.page.locator("#rebuilt-age")).to_contain_text("s old")
    assert aspect == pytest.approx(160 / 210)
