"""The protocol client in a game's own loop: one that holds it up, errs, or leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from websockets.asyncio.server import serve

from sgaps.errors import ProtocolError
from sgaps.protocol.messages import Error
from sgaps_client import client as client_module
from sgaps_client import complaints as complaints_module
from sgaps_client import state as state_module
from sgaps_client.client import NoSession, SgapsClient
from sgaps_client.complaints import PAUSE_SECS, Complaints
from sgaps_client.outgoing import WrongPicture
from sgaps_client.state import SessionConfig
from unit.scripted_gateway import ScriptedGateway
from waiting import eventually, wait_until

IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
STATE = np.zeros(2, np.float32)
MANY = 1000
TAKEN_OVER = Error(code="session_taken_over", message="elsewhere", fatal=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_SECS", 0.01)
    monkeypatch.setattr(client_module, "HEARTBEAT_SECS", 0.02)


def config_of(url: str) -> SessionConfig:
    return SessionConfig(url=url, checkpoint_key="doom", width=8, height=6, state_dim=2)


def client_of(gateway: ScriptedGateway) -> SgapsClient:
    return SgapsClient(config_of(gateway.url))


@contextmanager
def in_a_thread(gateway: ScriptedGateway) -> Iterator[Callable[[int], None]]:
    """Runs while the test blocks its own loop. Gives a wait for so many answers on the wire."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    def run(awaited: Any) -> None:
        asyncio.run_coroutine_threadsafe(awaited, loop).result(60)

    def answered(count: int) -> None:
        wait_until(lambda: len(gateway.frames["session-0"]) >= count, "frames")
        run(asyncio.sleep(0))  # behind the step that wrote the last answer

    running = gateway.running()
    run(running.__aenter__())
    try:
        yield answered
    finally:
        run(running.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_game_that_awaits_nothing_but_its_frames_hears_the_answers() -> None:
    gateway = ScriptedGateway()
    with in_a_thread(gateway):
        async with client_of(gateway) as client:
            for _ in range(MANY):
                time.sleep(0.005)
                await client.send_frame(IMAGE, STATE)
                if client.state.account.last_answered_frame_id >= 20:
                    break
            assert client.state.account.last_answered_frame_id >= 20


async def test_all_that_waits_is_read_before_a_frame_is_sampled() -> None:
    gateway = ScriptedGateway()
    with in_a_thread(gateway) as answered:
        async with client_of(gateway) as client:
            for _ in range(5):
                await client.send_frame(IMAGE, STATE)
            answered(5)
            await client.send_frame(IMAGE, STATE)
            answered(6)
    assert gateway.frames["session-0"][-1].coordinate_set_id == 5  # that of frame 4


async def test_a_game_that_held_up_the_loop_has_not_lost_its_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_TIMEOUT_SECS", 1.0)
    gateway = ScriptedGateway()
    with in_a_thread(gateway) as answered:
        async with client_of(gateway) as client:
            for count in (1, 2):
                await client.send_frame(IMAGE, STATE)
                answered(count)
                time.sleep(1.5)
                await eventually(lambda: client.state.account.is_complete)
    assert len(gateway.starts) == 1


async def test_that_frames_are_dropped_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state_module, "BACKLOGGED_SECS", -1.0)  # always
    monkeypatch.setattr(complaints_module, "PAUSE_SECS", 3600.0)
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway) as client:
        for _ in range(10):
            assert await client.send_frame(IMAGE, STATE) is None
    assert client.state.frames_dropped == 10
    (told,) = [message for message in caplog.messages if "dropped" in message]
    assert "slower than the game" in told


async def test_refused_frames_are_told_once_for_each_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(complaints_module, "PAUSE_SECS", 3600.0)
    codes = ["too_many_samples", "state_too_long", "too_many_samples", "of a newer server"] * 3
    refusals = {i: Error(code=code, message="no") for i, code in enumerate(codes)}
    gateway = ScriptedGateway(refuse_frames=refusals)
    async with gateway.running(), client_of(gateway) as client:
        for _ in codes:
            await client.send_frame(IMAGE, STATE)
        await eventually(lambda: client.state.refusals == codes)
    told = [message for message in caplog.messages if "refused a message" in message]
    assert [message.split(": ")[1] for message in told] == list(dict.fromkeys(codes))


def test_a_complaint_says_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    with caplog.at_level(logging.WARNING):
        for now_secs in (0.0, 1.0, PAUSE_SECS - 0.1, PAUSE_SECS, 2 * PAUSE_SECS):
            complaints.warn("a", "too fast", now_secs=now_secs)
        complaints.warn("b", "too long", now_secs=0.0)
    assert caplog.messages == ["too fast", "too fast (3 times)", "too fast", "too long"]


async def play_until_refused(gateway: ScriptedGateway, error: Exception | None = None) -> None:
    async with client_of(gateway) as client:
        await client.send_frame(IMAGE, STATE)
        await eventually(lambda: client.state.refusals)
        if error is not None:
            raise error


async def test_a_refusal_for_good_is_raised_at_the_end_where_no_frame_told_of_it() -> None:
    gateway = ScriptedGateway(refuse_frames={0: TAKEN_OVER})
    async with gateway.running():
        with pytest.raises(ProtocolError, match="session_taken_over"):
            await play_until_refused(gateway)


async def test_the_game_s_own_error_comes_before_a_refusal() -> None:
    gateway = ScriptedGateway(refuse_frames={0: TAKEN_OVER})
    async with gateway.running():
        with pytest.raises(ZeroDivisionError):
            await play_until_refused(gateway, ZeroDivisionError())


async def test_a_closed_client_says_so_and_may_be_opened_again() -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        client = client_of(gateway)
        with pytest.raises(RuntimeError, match="async with"):
            await client.send_frame(IMAGE, STATE)
        async with client:
            await client.send_frame(IMAGE, STATE)
            await eventually(lambda: client.state.account.is_complete)
        with pytest.raises(RuntimeError, match="closed"):
            await client.send_frame(IMAGE, STATE)
        async with client:
            await client.send_frame(IMAGE, STATE)
            await eventually(lambda: client.state.account.is_complete)
    assert client.state.account.sent == 2


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (np.zeros((6, 8, 3), np.uint8), r"uint8 \(6, 8, 3\)"),
        (np.zeros((6, 8), np.float32), r"float32 \(6, 8\)"),
        (np.zeros((6, 8), np.bool_), r"bool \(6, 8\)"),
        (np.full((6, 8), 300, np.int32), r"int32 \(6, 8\)"),
        (np.zeros((6, 8), np.uint16), r"uint16 \(6, 8\)"),
        (np.zeros((8, 6), np.uint8), r"uint8 \(8, 6\)"),
        ([[0] * 8] * 6, "list"),
        (None, "NoneType"),
    ],
)
async def test_what_is_no_gray_picture_of_the_session_is_refused(picture: Any, told: str) -> None:
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway) as client:
        cure = r"uint8 \(H, W\) = \(6, 8\), such as cv2.cvtColor\(picture, cv2.COLOR_RGB2GRAY\)"
        with pytest.raises(WrongPicture, match=f"the picture is {told}; .*{cure}"):
            await client.send_frame(picture, STATE)
        assert client.state.account.sent == 0


async def test_a_state_value_that_float32_cannot_hold_is_missing() -> None:
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway) as client:
        await client.send_frame(IMAGE, np.array([1e300, -0.5]))
        await eventually(lambda: gateway.frames["session-0"])
    assert gateway.frames["session-0"][0].state_vector == [-999.0, -0.5]


async def test_a_frame_that_cannot_be_written_is_not_counted_as_sent() -> None:
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway) as client:
        await client.send_frame(IMAGE, STATE)
        with pytest.raises(ValidationError):
            await client.send_frame(IMAGE, np.zeros((2, 2), np.float32))
        await eventually(lambda: client.state.account.is_complete)
    assert client.state.account.sent == 1


@asynccontextmanager
async def silent_from_the_start() -> AsyncIterator[int]:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        gone.set()


@asynccontextmanager
async def silent_after_the_handshake() -> AsyncIterator[int]:
    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@pytest.mark.parametrize("server", [silent_from_the_start, silent_after_the_handshake])
async def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_time_given(
    server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LEAST_ATTEMPT_SECS", 0.0)
    monkeypatch.setattr(client_module, "START_TIMEOUT_SECS", 60.0)
    async with server() as port:
        client = SgapsClient(config_of(f"ws://127.0.0.1:{port}/ws/stream"), wait_secs=0.5)
        async with asyncio.timeout(30):
            with pytest.raises(NoSession, match=r"within 0\.5 s"):
                await client.__aenter__()
