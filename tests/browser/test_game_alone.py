"""The game's page beside a gateway that the tests play: how it plays, and what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import SESSION_ID, Tab, list_sessions
from browser.game_gateway import GRANTED, Gateway, opened, view_of
from browser.game_page import eventually, wait_for_state
from sgaps.protocol.messages import SamplingWish

STATE_VALUES, TURNING = 11, 5


@pytest.fixture
def gateway(tab: Tab, url: str, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """With the game open and connected; the parameter is a wish of the system's for motion."""
    tab.page.emulate_media(reduced_motion=getattr(request, "param", None))
    with opened(tab, url) as played:
        yield played


def test_the_state_has_as_many_values_as_were_announced(tab: Tab, gateway: Gateway) -> None:
    eventually(tab.page, lambda: gateway.frames)
    assert gateway.starts[0].max_state_dim == STATE_VALUES
    assert len(gateway.frames[0].state) == STATE_VALUES


def test_a_control_with_the_focus_takes_only_the_keys_it_needs(tab: Tab, gateway: Gateway) -> None:
    page, pilot = tab.page, tab.page.locator("#pilot")

    def assert_steers(key: str, direction: int) -> None:
        page.keyboard.down(key)
        eventually(page, lambda: direction * gateway.frames[-1].state[TURNING] > 0.5)
        expect(pilot).to_have_text("you steer")
        page.keyboard.up(key)

    for control, key in {"#placement": "KeyW", "#samples": "ArrowRight"}.items():
        page.locator(control).focus()
        page.keyboard.press(key, delay=500)
        expect(pilot).to_have_text("plays itself")
    assert int(page.locator("#samples").input_value()) > GRANTED
    assert_steers("KeyD", 1)
    page.get_by_label("Where the server looks next").check()
    assert_steers("ArrowLeft", -1)


CHOOSE = """select => {
  select.value = "even";
  select.dispatchEvent(new Event("change", { bubbles: true }));
}"""
"""As a list does it, which a browser without windows opens for nobody."""


def test_who_points_at_a_list_steers_afterwards_and_who_came_by_keyboard_keeps_the_place(
    tab: Tab, gateway: Gateway
) -> None:
    page, placement = tab.page, tab.page.locator("#placement")
    placement.click()
    placement.evaluate(CHOOSE)
    expect(placement).not_to_be_focused()
    page.keyboard.down("KeyW")  # the list would choose "where it is unsure"
    expect(page.locator("#pilot")).to_have_text("you steer")
    page.keyboard.up("KeyW")
    expect(placement).to_have_value("even")
    page.locator("#fps").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    expect(placement).to_have_value("adaptive")
    expect(placement).to_be_focused()


def test_a_placement_alone_is_wished_for_with_the_number_that_the_server_gives(
    tab: Tab, gateway: Gateway
) -> None:
    page, slider, told = tab.page, tab.page.locator("#samples"), tab.page.locator("#samples-value")
    expect(slider).to_have_value(str(GRANTED))
    page.locator("#placement").select_option("even")
    eventually(page, lambda: len(gateway.starts) > 1)
    assert gateway.starts[1].sampling == SamplingWish(placement="even")
    expect(page.locator("#lead-samples")).to_have_text(str(GRANTED))
    slider.fill("400")
    eventually(page, lambda: len(gateway.starts) > 2)
    expect(told).to_have_text("400")
    page.locator("#placement").select_option("adaptive")
    eventually(page, lambda: len(gateway.starts) > 3)
    wishes = [start.sampling for start in gateway.starts[2:]]
    assert wishes == [
        SamplingWish(sample_count=400, placement=placement) for placement in ("even", "adaptive")
    ]


def test_one_wish_is_made_of_many_presses(tab: Tab, gateway: Gateway) -> None:
    page, told = tab.page, tab.page.locator("#samples-value")
    assert told.inner_text() == str(GRANTED)
    page.locator("#samples").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert told.inner_text() == str(GRANTED + 50)
    eventually(page, lambda: len(gateway.starts) > 1)
    page.wait_for_timeout(1000)
    wishes = [start.sampling and start.sampling.sample_count for start in gateway.starts]
    assert wishes == [None, GRANTED + 50]


def test_the_number_under_the_hand_is_left_alone(tab: Tab, gateway: Gateway) -> None:
    slider, told = tab.page.locator("#samples"), tab.page.locator("#samples-value")
    slider.evaluate("one => { one.value = 700; one.dispatchEvent(new Event('input')); }")
    tab.page.wait_for_timeout(1000)
    assert told.inner_text() == "700"
    slider.evaluate("one => one.dispatchEvent(new Event('change'))")
    eventually(tab.page, lambda: len(gateway.starts) > 1)
    expect(tab.page.locator("#lead-samples")).to_have_text("700")
    assert told.inner_text() == "700"


def place(gateway: Gateway) -> list[float]:
    """Where the player of the newest frame stands, and looks."""
    return [round(float(value), 6) for value in gateway.frames[-1].state]


def test_it_plays_until_it_is_paused(tab: Tab, gateway: Gateway) -> None:
    page, pause = tab.page, tab.page.get_by_role("button", name="Pause")
    eventually(page, lambda: gateway.frames)
    first = place(gateway)
    eventually(page, lambda: place(gateway) != first)
    expect(page.locator("#pilot")).to_have_text("plays itself")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#pilot")).to_contain_text("paused")
    page.wait_for_timeout(300)
    still = place(gateway)
    page.wait_for_timeout(700)
    assert place(gateway) == still
    pause.click()
    then = len(gateway.frames)
    eventually(page, lambda: len(gateway.frames) > then + 1)
    expect(page.locator("#pilot")).to_have_text("plays itself")


@pytest.mark.parametrize("gateway", ["reduce"], indirect=True)
def test_who_wants_less_motion_begins_with_a_still_picture(tab: Tab, gateway: Gateway) -> None:
    page, pilot = tab.page, tab.page.locator("#pilot")
    expect(pilot).to_contain_text("paused · press Pause again to go on")
    eventually(page, lambda: len(gateway.frames) > 2 and gateway.viewers)
    assert place(gateway) == [round(float(value), 6) for value in gateway.frames[0].state]
    gateway.viewers[0].send(view_of(gateway.frames[-1]))
    expect(page.locator("#reconstruction-psnr")).to_contain_text("dB")
    page.wait_for_timeout(500)
    sent, still = len(gateway.frames), place(gateway)
    page.wait_for_timeout(1500)
    assert len(gateway.frames) == sent
    page.keyboard.down("ArrowLeft")
    eventually(page, lambda: place(gateway) != still)
    page.keyboard.up("ArrowLeft")
    expect(pilot).to_contain_text("paused")
    page.get_by_role("button", name="Pause").click()
    expect(pilot).not_to_contain_text("paused")


SLOW_TURNS = """
window.turns = window.drawn = 0;
window.requestAnimationFrame = turn => setTimeout(() => { turns++; turn(performance.now()); }, 100);
const { clear } = WebGL2RenderingContext.prototype;
WebGL2RenderingContext.prototype.clear = function (mask) { drawn++; clear.call(this, mask); };
"""
"""As where the screen waits for a processor that draws."""


def test_where_drawing_is_slow_it_pauses_as_long(tab: Tab, gateway: Gateway) -> None:
    tab.page.add_init_script(SLOW_TURNS)
    tab.page.reload()
    eventually(tab.page, lambda: tab.page.evaluate("turns >= 30"))
    assert 0.2 < tab.page.evaluate("drawn / turns") < 0.7


PLAY = """async turns => {
  const { World } = await import("/game/world/world.js");
  Math.random = () => 0.5;
  const world = new World(document.createElement("canvas"), { width: 32, height: 24 });
  for (const secs of turns) world.play(secs, { forward: 1, turn: 0.2 });
  return [...world.stateVector];
}"""


def test_a_slow_turn_goes_as_far_as_quick_ones(tab: Tab, gateway: Gateway) -> None:
    def walked(*turns: float) -> list[float]:
        return [round(value, 4) for value in tab.page.evaluate(PLAY, turns)]

    assert walked(0.1) != walked(0.5) == walked(*[0.1] * 5)
    assert walked(3600.0) == walked(0.6), "a tab that was hidden goes on where it was"


STEER = """async () => {
  const { Controls } = await import("/game/controls.js");
  window.steered = document.querySelector("#rebuilt");
  window.controls = new Controls(steered);
}"""
ENDS = {
    "another window": "dispatchEvent(new Event('blur'))",
    "an element": "steered.releasePointerCapture(1)",
    "the system": "steered.dispatchEvent(new Event('pointercancel'))",
}
"""Who takes the pointer; the browser gives a mouse the id 1."""


def test_only_the_first_button_steers_and_only_while_it_is_held(tab: Tab, url: str) -> None:
    page, mouse = tab.page, tab.page.mouse
    list_sessions(page)
    page.goto(url)  # it has pictures, too, and nothing plays there
    page.evaluate(STEER)
    box = page.locator("#rebuilt").bounding_box()
    assert box is not None
    x, y = box["x"] + 50, box["y"] + 50

    def begin(**pressed: Any) -> None:
        mouse.move(x, y)
        mouse.down(**pressed)
        mouse.move(x + 100, y)

    def is_steering() -> bool:
        return bool(page.evaluate("controls.wish.turn === 1"))

    begin(button="right")
    assert not is_steering()
    mouse.up(button="right")
    page.keyboard.down("Control")  # opens the menu on a Mac
    begin()
    assert not is_steering()
    mouse.up()
    page.keyboard.up("Control")
    for end in ENDS.values():
        begin()
        assert is_steering()
        page.evaluate(end)
        mouse.move(x + 90, y)
        assert not is_steering()
        mouse.up()


def test_a_figure_stays_selected_while_others_change(tab: Tab, gateway: Gateway) -> None:
    page, session = tab.page, tab.page.locator("#facts dd", has_text=SESSION_ID[:8])
    session.evaluate("one => getSelection().selectAllChildren(one)")
    drawn = len(eventually(page, lambda: gateway.frames))
    page.wait_for_timeout(1000)
    assert len(gateway.frames) > drawn
    assert SESSION_ID[:8] in page.evaluate("getSelection().toString()")


def test_a_page_that_is_come_back_to_shows_what_is_in_force(tab: Tab, gateway: Gateway) -> None:
    """A browser would fill in what was chosen before, and nobody would be told."""
    page, form = tab.page, tab.page.locator("#form")
    fresh = shown(page)
    page.locator("#samples").fill("800")
    page.locator("#fps").fill("2")
    page.locator("#placement").select_option("even")
    form.select_option("sgaps.v1.json")
    page.locator("#show-places").uncheck()
    page.locator("#show-heat").check()
    eventually(page, lambda: gateway.starts[-1].sampling)
    assert all(now != then for now, then in zip(shown(page), fresh, strict=True))
    page.goto("about:blank")
    page.go_back()
    wait_for_state(page, "live")
    assert gateway.starts[-1].sampling is None
    assert shown(page) == fresh


def shown(page: Page) -> list[object]:
    """What the controls show."""
    look = "all => all.map(one => one.type === 'checkbox' ? one.checked : one.value)"
    controls: list[object] = page.locator(".toggles").locator("input, select").evaluate_all(look)
    return controls
