"""What the game's page says of its connection, to a gateway that the tests play."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from browser.conftest import SESSION_ID, Tab, list_sessions, words_said_again
from browser.game_gateway import HIDE, Gateway, opened, refuse, view_of
from browser.game_page import eventually, remember_states, wait_for_passing

MAINTENANCE = {"code": "maintenance", "message": "for a moment", "retry_after_secs": 1}
AWAY_SECS = 4
"""Longer than the page waits for an answer before it says so, and for a gateway by itself."""


@pytest.fixture
def gateway(tab: Tab, url: str, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """With the game open and connected; the parameter is a wish of the system's for motion."""
    tab.page.emulate_media(reduced_motion=getattr(request, "param", None))
    with opened(tab, url) as played:
        yield played


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


def test_a_picture_that_comes_too_late_is_told(tab: Tab, gateway: Gateway) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    viewer = eventually(page, lambda: gateway.viewers)[0]
    frame = eventually(page, lambda: gateway.frames)[0]
    viewer.send(view_of(replace(frame, frame_id=10**6)))  # it is kept no more than this one
    expect(words).to_have_text("What the server shows is too late: its frame is not kept any more")
    viewer.send(view_of(gateway.frames[-1]))
    expect(words).to_have_text("Connected")


SEND = """async seconds => {
  const { Sender } = await import("/game/sender.js");
  const set = { u: [.5], v: [.5], sidePx: [1] };
  let frameId = 0;
  const client = { newestSet: set, isReady: true, targetFps: 10, send: () => frameId++ };
  const world = { stateVector: [], readLuma: async () => Uint8Array.of(1) };
  const sender = new Sender(client, world, { width: 1, height: 1 });
  for (let nowMs = 0; nowMs < 1000 * seconds; nowMs += 100) await sender.sendIfDue(nowMs);
  return [sender.framesSent, sender.sent(0) !== undefined];
}"""


def test_a_frame_waits_20_s_for_its_picture(tab: Tab, url: str) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    assert tab.page.evaluate(SEND, 20) == [200, True]
    assert tab.page.evaluate(SEND, 21) == [210, False]


REFUSALS: dict[str, dict[str, object]] = {
    "The server wants a pause: storage is full": {
        "code": "overloaded",
        "message": "storage is full",
        "retry_after_secs": 1,
    },
    "The server refuses what is sent: state_vector[3] is not finite": {
        "code": "bad_message",
        "message": "state_vector[3] is not finite",
    },
}


@pytest.mark.parametrize("said", REFUSALS)
def test_what_the_server_refuses_is_told_while_it_does(
    tab: Tab, gateway: Gateway, said: str
) -> None:
    words = tab.page.locator("#state-text")

    def is_told() -> bool:
        refusal = {"type": "error", "fatal": False, **REFUSALS[said]}
        gateway.streams[-1].send(json.dumps(refusal))
        return words.inner_text() == said

    eventually(tab.page, is_told)
    expect(words).to_have_text("Connected")


def test_a_network_that_is_slower_than_the_game_is_told(tab: Tab, gateway: Gateway) -> None:
    words = tab.page.locator("#state-text")
    gateway.is_deaf = True  # as where heartbeats wait behind frames
    expect(words).to_have_text("The network is slower than the game")
    gateway.is_deaf = False
    expect(words).to_have_text("Connected")


def test_the_state_is_said_once_and_every_picture_has_a_name(tab: Tab, gateway: Gateway) -> None:
    assert words_said_again(tab.page) == []
    unnamed = "canvas:not([aria-hidden='true'], [role='img'][aria-label])"
    assert tab.page.locator(unnamed).count() == 0
    expect(tab.page.get_by_role("heading", level=1)).to_have_count(1)


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
    expect(page.locator("#state-text")).to_have_text("Stopped: the graphics device is gone")
    began = len(gateway.starts)
    page.evaluate(HIDE, True)
    page.evaluate(HIDE, False)
    page.wait_for_timeout(500)
    expect(page.locator("#state-text")).to_have_text("Stopped: the graphics device is gone")
    assert len(gateway.starts) == began
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
