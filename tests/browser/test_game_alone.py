"""The game's page beside a gateway that the tests play: one place, and answers to every frame."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from browser.conftest import SESSION_ID, Tab, list_sessions, words_said_again
from browser.game_page import UNHEARD, eventually, remember_states, wait_for_passing, wait_for_state
from browser.walks import HEIGHT, WIDTH
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.messages import (
    Heartbeat,
    HeartbeatAck,
    SessionStart,
    SessionStartAck,
    UvCoordinates,
)
from sgaps_client.pictures import encoded_png

STATE_VALUES, TURNING = 11, 5
GRANTED = 300
"""Samples that the gateway gives who wishes for none."""
MAINTENANCE = {"code": "maintenance", "message": "for a moment", "retry_after_secs": 1}
AWAY_SECS = 4
"""Longer than the page waits for an answer before it says so, and for a gateway by itself."""
FULL = {"code": "too_many_sessions", "message": "64 viewers", "retry_after_secs": 1}
HIDE = """isHidden => {
  Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""As when another tab is looked at, which a browser without windows never does."""


@dataclass
class Gateway:
    """Playwright chooses the client's first form, the binary one; its own messages may be JSON."""

    streams: list[WebSocketRoute] = field(default_factory=list)
    viewers: list[WebSocketRoute] = field(default_factory=list)
    starts: list[SessionStart] = field(default_factory=list)
    frames: list[binary_codec.ValuesOfFrame] = field(default_factory=list)
    is_full: bool = False
    """It sends all viewers away."""
    is_shut: bool = False
    """It lets no viewer in, and says nothing."""
    is_silent: bool = False
    """It answers no frame."""

    def stream(self, socket: WebSocketRoute) -> None:
        self.streams.append(socket)
        socket.on_message(lambda raw: self._take(socket, raw))

    def view(self, socket: WebSocketRoute) -> None:
        self.viewers.append(socket)
        if self.is_full:
            refuse(socket)
        if self.is_shut:
            socket.close()

    def _take(self, socket: WebSocketRoute, raw: str | bytes) -> None:
        message = decoded(raw)
        if isinstance(message, SessionStart):
            self.starts.append(message)
            socket.send(self._ack(message))
            socket.send(coordinates(-1))
        elif isinstance(message, binary_codec.ValuesOfFrame):
            self.frames.append(message)
            if not self.is_silent:
                socket.send(coordinates(message.frame_id))
        elif isinstance(message, Heartbeat):
            heard = HeartbeatAck(
                timestamp=message.timestamp,
                server_time=1,
                last_recorded_frame_id=-1,
                target_fps=10,
            )
            socket.send(json_codec.encode(heard))

    def _ack(self, start: SessionStart) -> str:
        wished = start.sampling and start.sampling.sample_count
        ack = SessionStartAck(
            session_id=SESSION_ID,
            checkpoint_loaded=True,
            sample_count=wished or GRANTED,
            max_state_dim=64,
            target_fps=10,
            model_version="v1",
            coordinate_set_id=1,
            keyframe_interval=0,
            resumed=start.resume_session_id is not None,
            last_frame_id=self.frames[-1].frame_id if self.frames else -1,
        )
        return json_codec.encode(ack)


def refuse(viewer: WebSocketRoute) -> None:
    viewer.send(json.dumps({"type": "error", "fatal": True, **FULL}))
    viewer.close(code=1008)


def decoded(raw: str | bytes) -> object:
    if isinstance(raw, str):
        return json_codec.decode_client_message(raw)
    return binary_codec.decode_client_message(raw)


def coordinates(frame_id: int) -> str:
    message = UvCoordinates(
        frame_id=frame_id, coordinate_set_id=1, coords=[(0.5, 0.5)], model_version="v1"
    )
    return json_codec.encode(message)


GRAY = encoded_png(np.full((HEIGHT, WIDTH), 128, np.uint8))


def view_of(frame: binary_codec.ValuesOfFrame, picture: bytes = GRAY) -> bytes:
    """A picture of it, as viewers get it."""
    header = {
        "session_id": SESSION_ID,
        "frame_id": frame.frame_id,
        "parts": {"reconstruction": len(picture), "samples": 0, "importance": 0, "true_frame": 0},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<2sBBI", b"SG", 1, 4, len(raw)) + raw + picture


@pytest.fixture
def gateway(tab: Tab, url: str, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """With the game open and connected; the parameter is a wish of the system's for motion."""
    played = Gateway()
    tab.page.emulate_media(reduced_motion=getattr(request, "param", None))
    tab.page.route_web_socket("**/ws/stream", played.stream)
    tab.page.route_web_socket("**/ws/view/*", played.view)
    tab.page.goto(f"{url}/game/")
    wait_for_state(tab.page, "live")
    yield played
    tab.troubles = [t for t in tab.troubles if not any(part in t for part in UNHEARD)]


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
    assert int(page.locator("#samples").input_value()) > 500
    assert_steers("KeyD", 1)
    page.get_by_label("Where the server looks next").check()
    assert_steers("ArrowLeft", -1)


def test_one_wish_is_made_of_many_presses(tab: Tab, gateway: Gateway) -> None:
    page, told = tab.page, tab.page.locator("#samples-value")
    assert told.inner_text() == str(GRANTED)
    page.locator("#samples").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert told.inner_text() == "550"
    eventually(page, lambda: len(gateway.starts) > 1)
    page.wait_for_timeout(1000)
    wishes = [start.sampling and start.sampling.sample_count for start in gateway.starts]
    assert wishes == [None, 550]


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


@pytest.mark.parametrize("gateway", ["reduce"], indirect=True)
def test_who_gets_no_pictures_is_told_and_sends_a_still_one_no_longer(
    tab: Tab, gateway: Gateway
) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    gateway.is_full = True
    refuse(eventually(page, lambda: gateway.viewers)[0])
    expect(words).to_have_text("No pictures: 64 viewers")
    page.wait_for_timeout(500)
    sent = len(gateway.frames)
    page.wait_for_timeout(1500)
    assert len(gateway.frames) == sent
    expect(words).to_have_text("No pictures: 64 viewers")
    gateway.is_full = False
    then = len(gateway.viewers)
    viewer = eventually(page, lambda: gateway.viewers[then:])[0]
    viewer.send(json.dumps({"type": "view_status"}))
    eventually(page, lambda: len(gateway.frames) > sent)
    expect(words).to_have_text("Connected")
    viewer.send(view_of(gateway.frames[-1]))
    expect(page.locator("#reconstruction-psnr")).to_contain_text("dB")


def test_where_no_pictures_get_through_it_is_said(tab: Tab, gateway: Gateway) -> None:
    """As behind a proxy that lets no viewers pass."""
    words = tab.page.locator("#state-text")
    gateway.is_shut = True
    eventually(tab.page, lambda: gateway.viewers)[0].close()
    expect(words).to_contain_text("No pictures: the page reaches it, but nothing comes over")
    gateway.is_shut = False
    then = len(gateway.viewers)
    viewer = eventually(tab.page, lambda: gateway.viewers[then:])[0]
    viewer.send(json.dumps({"type": "view_status"}))
    expect(words).to_have_text("Connected")


def test_who_lost_the_session_to_another_page_can_start_again(tab: Tab, gateway: Gateway) -> None:
    again = tab.page.get_by_role("button", name="Start again")
    eventually(tab.page, lambda: gateway.frames)
    taken = {"code": "session_taken_over", "message": "by another page"}
    gateway.streams[-1].send(json.dumps({"type": "error", "fatal": True, **taken}))
    expect(tab.page.locator("#state-text")).to_have_text("Refused: by another page")
    again.click()
    expect(tab.page.locator("#state-text")).to_have_text("Connected")
    expect(again).to_be_hidden()
    assert [start.resume_session_id for start in gateway.starts] == [None, None]


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


def test_a_tab_that_nobody_sees_leaves_and_resumes(tab: Tab, gateway: Gateway) -> None:
    """Its timers hardly run: it would be taken for dead, come back, and be taken for dead again."""
    page, words = tab.page, tab.page.locator("#state-text")
    left: list[int | None] = []
    eventually(page, lambda: gateway.frames and gateway.viewers)
    for socket in (gateway.streams[0], gateway.viewers[0]):
        socket.on_close(lambda code, _: left.append(code))
    page.locator("#placement").select_option("even")  # a wish that is due when it is hidden
    page.evaluate(HIDE, True)
    expect(words).to_have_text("Goes on when this tab is seen")
    page.wait_for_timeout(600)
    assert (len(left), len(gateway.starts)) == (2, 1)
    page.evaluate(HIDE, False)
    expect(words).to_have_text("Connected, resumed 1 ×")
    assert [start.resume_session_id for start in gateway.starts] == [None, SESSION_ID]
    assert gateway.starts[1].sampling is not None
    eventually(page, lambda: len(gateway.viewers) == 2)


def test_an_end_for_reasons_unknown_is_come_back_from(tab: Tab, gateway: Gateway) -> None:
    """A newer gateway may have codes that this page does not know."""
    remember_states(tab.page)
    gateway.streams[0].send(json.dumps({"type": "error", "fatal": True, **MAINTENANCE}))
    assert "for a moment" in wait_for_passing(tab.page, "lost")
    eventually(tab.page, lambda: len(gateway.starts) == 2)


def test_what_cannot_be_shown_is_told_until_something_can(tab: Tab, gateway: Gateway) -> None:
    words = tab.page.locator("#state-text")
    viewer = eventually(tab.page, lambda: gateway.viewers)[0]
    eventually(tab.page, lambda: gateway.frames)
    said = {
        b"SG\x09\x04" + bytes(8): "not a view of a version that this page knows: load it again",
        view_of(gateway.frames[-1], b"no PNG"): "no picture that this browser can decode",
    }
    for raw, what in said.items():
        viewer.send(raw)
        expect(words).to_have_text(f"What the server shows is {what}")
        viewer.send(view_of(gateway.frames[-1]))
        expect(words).to_have_text("Connected")


def test_the_state_is_said_once_and_every_picture_has_a_name(tab: Tab, gateway: Gateway) -> None:
    assert words_said_again(tab.page) == []
    unnamed = "canvas:not([aria-hidden='true'], [role='img'][aria-label])"
    assert tab.page.locator(unnamed).count() == 0
    expect(tab.page.get_by_role("heading", level=1)).to_have_count(1)


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


HOLD_READING = """{
  window.reading = "free";
  const { clientWaitSync } = WebGL2RenderingContext.prototype;
  WebGL2RenderingContext.prototype.clientWaitSync = function (...given) {
    if (reading === "held") return this.TIMEOUT_EXPIRED;
    if (reading === "lost") this.getExtension("WEBGL_lose_context").loseContext();
    return clientWaitSync.apply(this, given);
  };
}"""
"""A frame's way back from the device takes until the test says so, or never ends."""


def test_a_frame_that_is_lost_with_the_device_is_not_sent(tab: Tab, gateway: Gateway) -> None:
    page = tab.page
    page.add_init_script(HOLD_READING)
    page.reload()
    then = len(gateway.frames)
    eventually(page, lambda: len(gateway.frames) > then)
    page.evaluate("reading = 'held'")
    page.wait_for_timeout(500)
    sent = len(gateway.frames)
    page.evaluate("reading = 'lost'")
    expect(page.locator("#trouble")).to_contain_text("The graphics device is gone")
    page.wait_for_timeout(500)
    assert len(gateway.frames) == sent
    tab.troubles = [trouble for trouble in tab.troubles if "CONTEXT_LOST" not in trouble]


def send_away(gateway: Gateway) -> None:
    away = {**MAINTENANCE, "retry_after_secs": AWAY_SECS}
    gateway.streams[-1].send(json.dumps({"type": "error", "fatal": True, **away}))


def test_an_outage_is_no_wait_for_an_answer(tab: Tab, gateway: Gateway) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    gateway.is_silent = True
    then = len(gateway.frames)
    eventually(page, lambda: len(gateway.frames) > then)
    send_away(gateway)
    expect(words).to_contain_text("No connection: ")
    remember_states(page)
    eventually(page, lambda: len(gateway.starts) == 2)
    assert wait_for_passing(page, "live") == "Connected, resumed 1 ×"


def test_who_is_sent_away_comes_back_no_sooner_for_a_wish_or_a_look(
    tab: Tab, gateway: Gateway
) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    send_away(gateway)
    began_secs = time.monotonic()
    expect(words).to_contain_text("No connection: ")
    page.locator("#form").select_option("sgaps.v1.json")
    page.evaluate(HIDE, True)
    expect(words).to_have_text("Goes on when this tab is seen")
    page.evaluate(HIDE, False)
    expect(words).to_have_text("No connection: for a moment")
    eventually(page, lambda: len(gateway.starts) == 2)
    assert time.monotonic() - began_secs >= AWAY_SECS
