"""The protocol client on an uplink that is slower than its game."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from sgaps.protocol.messages import HeartbeatAck
from sgaps_client import client as client_module
from sgaps_client import state as state_module
from sgaps_client.client import SgapsClient
from sgaps_client.state import SessionAccount, SessionConfig
from unit.scripted_gateway import ScriptedGateway
from waiting import PATIENCE_SECS

IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
STATE = np.zeros(3, np.float32)
UPLINK_CHUNK_BYTES = 2000
UPLINK_PERIOD_SECS = 0.01
PLAY_SECS = 1.5
WAY_SECS = 0.3
LONG_WAY_FRAMES = 60
"""At 10 ms each, more than are sent before the first answer to a heartbeat."""
LATEST_SECS = 2.0
"""Where nothing is dropped, the last of these frames is 8 s late."""


@dataclass
class SlowWire:
    """A TCP proxy that lets 200 kB/s through to the gateway, and all of its answers."""

    target_port: int
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlowWire]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
        downlink = asyncio.create_task(_pump(answers, writer, pause_secs=0))
        await _pump(reader, onward, pause_secs=UPLINK_PERIOD_SECS)
        await downlink


class LongWay(SlowWire):
    """One that lets everything through, each piece as late as any other."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
        downlink = asyncio.create_task(_delay(answers, writer))
        await _delay(reader, onward)
        await downlink


async def _delay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    later = asyncio.get_running_loop().call_later
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(UPLINK_CHUNK_BYTES):
            later(WAY_SECS, writer.write, chunk)
    later(WAY_SECS, writer.close)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pause_secs: float
) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(UPLINK_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_secs)
    writer.close()


async def test_frames_that_the_network_cannot_take_are_dropped_and_the_others_come_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "HEARTBEAT_SECS", 0.02)
    monkeypatch.setattr(state_module, "BACKLOGGED_SECS", 0.1)
    gateway = ScriptedGateway(coords=((0.123456, 0.654321),) * 500)
    async with (
        gateway.running(),
        SlowWire(gateway.port).running() as wire,
        SgapsClient(_config(wire)) as client,
    ):
        until_secs = time.monotonic() + PLAY_SECS
        given = 0
        while time.monotonic() < until_secs:
            given += 1
            await client.send_frame(IMAGE, STATE, keyframe_png=None)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(LATEST_SECS):
            while not client.state.account.is_complete:
                await asyncio.sleep(0.01)
    account, dropped = client.state.account, client.state.frames_dropped
    assert dropped > 0
    assert account.sent + dropped == given
    assert gateway.frame_ids("session-0") == list(range(account.sent))


def _config(wire: SlowWire) -> SessionConfig:
    url = f"ws://127.0.0.1:{wire.port}/ws/stream"
    return SessionConfig(url=url, checkpoint_key="doom", width=8, height=6, state_dim=3)


def _account() -> SessionAccount:
    account = SessionAccount(session_id="s")
    account.book_heartbeat_sent(1000.0, now_secs=5.0)
    account.book_heartbeat_sent(1001.0, now_secs=6.0)
    return account


def test_the_oldest_heartbeat_without_an_answer_tells_how_long_the_queue_is() -> None:
    account = _account()
    assert not SessionAccount(session_id="s").is_backlogged(now_secs=1e9)
    assert not account.is_backlogged(now_secs=6.0)
    assert account.is_backlogged(now_secs=6.1)
    account.book_heartbeat(_ack(1000.0), now_secs=7.0)
    assert not account.is_backlogged(now_secs=9.0)  # a round trip and a second after it was sent
    assert account.is_backlogged(now_secs=9.1)
    account.book_heartbeat(_ack(1001.0), now_secs=9.1)
    assert not account.is_backlogged(now_secs=1e9)


def test_a_long_way_is_no_queue() -> None:
    """Of a steady round trip of 5 s every heartbeat waits 5 s: no frame was sent any more."""
    account = SessionAccount(session_id="s")
    for second in range(5):
        account.book_heartbeat_sent(float(second), now_secs=second)
    for second in range(5, 20):
        account.book_heartbeat(_ack(second - 5.0), now_secs=second)
        account.book_heartbeat_sent(float(second), now_secs=second)
        assert not account.is_backlogged(now_secs=second + 0.9)
    account.book_heartbeat(_ack(15.0), now_secs=19.5)  # the shortest of them counts
    assert not account.is_backlogged(now_secs=21.5)
    assert account.is_backlogged(now_secs=21.6)


def test_a_lost_connection_takes_its_queue_and_its_way_along() -> None:
    account = _account()
    account.book_heartbeat(_ack(1000.0), now_secs=8.0)
    account.book_lost(after_frame_id=-1)
    assert not account.is_backlogged(now_secs=1e9)
    account.book_heartbeat_sent(1002.0, now_secs=100.0)
    assert not account.is_backlogged(now_secs=101.0)
    assert account.is_backlogged(now_secs=101.1)


async def test_over_a_long_way_frames_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "HEARTBEAT_SECS", 0.05)
    monkeypatch.setattr(state_module, "BACKLOGGED_SECS", 0.1)
    gateway = ScriptedGateway()
    async with (
        gateway.running(),
        LongWay(gateway.port).running() as wire,
        SgapsClient(_config(wire)) as client,
        asyncio.timeout(PATIENCE_SECS),
    ):
        while client.state.account.sent < LONG_WAY_FRAMES:
            await client.send_frame(IMAGE, STATE, keyframe_png=None)
            await asyncio.sleep(0.01)


def _ack(timestamp: float) -> HeartbeatAck:
    return HeartbeatAck(
        timestamp=timestamp, server_time=0.0, last_recorded_frame_id=-1, target_fps=20
    )
