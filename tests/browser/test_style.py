"""How the pages look: what computed styles and sizes tell of colours, space and controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

import sgaps_cli.replay.app
from browser.conftest import PHONE, SESSION_ID, Tab, list_sessions, open_tab, pages
from browser.live_page import view_of, watched
from sgaps_client.pictures import encoded_png

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
SMALL_PHONE = (360, 740)
NO_RECORDINGS: dict[str, Any] = {"folder": "f", "recordings": [], "checkpoints": []}
COLOURS = """() => {
  const background = (one, part) => getComputedStyle(one, part).backgroundColor;
  return [...document.querySelectorAll(".legend i")].map(one => background(one))
    .concat(background(document.querySelector(".vector i"), "::after"))
    .concat(background(document.querySelector(".state"), "::before"));
}"""
"""Those that tell lines, bars and states from one another."""
LOOKS = """one => {
  const { opacity, cursor, borderColor } = getComputedStyle(one);
  return [opacity, cursor, borderColor];
}"""


@pytest.fixture(scope="module")
def replay() -> Iterator[str]:
    """The address of its page, without a server behind it."""
    with pages(sgaps_cli.replay.app.PAGE) as address:
        yield address


def open_replay(page: Page, replay: str) -> None:
    page.route("**/api/catalog", lambda route: route.fulfill(json=NO_RECORDINGS))
    page.goto(replay)
    expect(page.locator("#notice")).to_contain_text("There are no recordings here any more")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_badge_can_be_read(tab: Tab, url: str, replay: str, colours: Any) -> None:
    page = tab.page
    list_sessions(page)
    page.emulate_media(color_scheme=colours)
    page.goto(url)
    assert page.evaluate(CONTRAST, ".picture figcaption i") >= 4.5
    open_replay(page, replay)
    for side in "ab":
        assert page.evaluate(CONTRAST, f"[data-side={side}] > .field b") >= 4.5


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_where_the_system_forces_its_colours_lines_are_told_apart_as_elsewhere(
    tab: Tab, url: str, colours: Any
) -> None:
    page = tab.page
    page.emulate_media(color_scheme=colours)
    page.clock.install(time=0)
    page.clock.pause_at(3600)  # its state, too, stays what it is
    watched(page, url).send(view_of(SESSION_ID))
    expect(page.locator("#state")).to_have_attribute("data-state", "live")
    page.clock.run_for(250)
    expect(page.locator("#vector li")).to_have_count(1)
    as_chosen = page.evaluate(COLOURS)
    assert len(set(as_chosen)) >= 5
    page.emulate_media(color_scheme=colours, forced_colors="active")
    assert page.evaluate(COLOURS) == as_chosen
    for theme in ("light", "dark"):  # chosen for other backgrounds, perhaps
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        assert page.evaluate(COLOURS) == as_chosen


def test_a_tall_picture_is_seen_as_a_whole(tab: Tab, url: str) -> None:
    page, size = tab.page, (90, 1000)
    picture = encoded_png(np.zeros(size[::-1], np.uint8))
    watched(page, url).send(view_of(SESSION_ID, picture=picture, size=size))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")
    assert page.locator("#rebuilt").evaluate("one => one.height") == size[1]
    for name in ("rebuilt", "sent", "next", "truth", "error"):
        box = page.locator(f"#{name}").bounding_box()
        assert box is not None
        assert box["height"] <= page.evaluate("innerHeight")


def test_what_is_disabled_looks_so(tab: Tab, replay: str) -> None:
    page = tab.page
    page.emulate_media(reduced_motion="reduce")  # no colour is on its way to another one
    open_replay(page, replay)
    for name in ("forth", "next-truth", "checkpoint-a"):
        control = page.locator(f"#{name}")
        opacity, cursor, border = control.evaluate(LOOKS)
        assert (opacity, cursor) == ("0.5", "default")
        control.hover(force=True)
        assert control.evaluate(LOOKS) == ["0.5", "default", border]
        control.evaluate("one => { one.disabled = false; }")
        opacity, _, pointed = control.evaluate(LOOKS)
        assert opacity == "1"
        assert pointed != border


@pytest.mark.parametrize("path", ["/", "/game/", "/docs/"])
def test_the_bar_of_a_small_phone_is_one_line(chromium: Browser, url: str, path: str) -> None:
    with open_tab(chromium, SMALL_PHONE) as phone:
        page = phone.page
        list_sessions(page)
        page.route_web_socket("**/ws/stream", lambda socket: None)
        page.goto(url + path)
        brand, switch = page.locator(".brand"), page.locator("[data-theme-switch]")
        boxes = [one.bounding_box() for one in (brand, switch)]
        middles = [box["y"] + box["height"] / 2 for box in boxes if box]
        assert middles[0] == pytest.approx(middles[1], abs=1)
        phone.troubles.clear()


def test_a_long_value_stays_within_a_phone(chromium: Browser, url: str) -> None:
    with open_tab(chromium, PHONE) as phone:
        watched(phone.page, url).send(view_of(SESSION_ID, -1764489915.123))
        expect(phone.page.locator("#vector")).to_contain_text("-1764489915.123")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
