"""What a gateway says of a frame that the broker refuses, or does not answer for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from gateway import __main__ as gateway_program
from gateway import connection
from gateway.app import create_app
from gateway.intake import remembering
from gateway.session import Session
from gateway_sessions import a_session
from integration.conftest import ClientConnection, RunningGateway, running_gateway, with_changes
from integration.talk import frame, heartbeat, keyframe, png, receive, refusal, send, start
from sgaps.bus import Bus, Operation, Publish, Put, RedisBus
from sgaps.errors import BusFull, BusUnavailable
from sgaps.keys import SESSION_TTL_SECS, session_key
from sgaps.messages import FrameAccepted
from sgaps.settings import Settings
from waiting import eventually


class _Refusing(RedisBus):
    """Full at the first frame."""

    is_full = True

    async def write(self, *operations: Operation) -> None:
        if self.is_full and any(isinstance(operation, Publish) for operation in operations):
            self.is_full = False
            raise BusFull("no room")
        await super().write(*operations)


class _Silent(RedisBus):
    """Does not answer for frames. It stores none, which its client cannot know."""

    async def write(self, *operations: Operation) -> None:
        if any(isinstance(operation, Publish) for operation in operations):
            raise BusUnavailable("nothing came back")
        await super().write(*operations)


async def handled(socket: ClientConnection) -> None:
    """All that was sent, whatever became of it."""
    message = await heartbeat(socket)
    while message["type"] != "heartbeat_ack":
        message = await receive(socket)


@contextmanager
def frozen(process_id: int) -> Iterator[None]:
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


async def test_a_frame_that_a_frozen_broker_may_store_later_is_not_said_to_be_lost(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, bus={"socket_timeout_secs": 0.5})
    async with Redis.from_url(settings.bus.url) as redis:
        process_id = (await redis.info("server"))["process_id"]
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        await start(socket)
        with frozen(process_id):
            error = await refusal(socket, frame(0))
        assert (error["code"], error["fatal"]) == ("overloaded", False)
        assert "not known" in error["message"]

        async def stored_after_all() -> bool:
            return await gateway.bus.length(FrameAccepted.STREAM) == 1

        await eventually(stored_after_all)
        again = await refusal(socket, frame(0))
        assert (again["code"], again["message"]) == ("frame_id_backwards", "frame_id 0 after 0")
        await send(socket, frame(1))
        assert (await heartbeat(socket))["type"] == "heartbeat_ack"
        assert await gateway.bus.length(FrameAccepted.STREAM) == 2


async def test_an_id_whose_frame_may_be_stored_is_used_up_but_not_acknowledged(
    gateway_settings: Settings,
) -> None:
    """Where the session goes on by another socket: what it is told to have had is recorded."""
    async with running_gateway(gateway_settings, _Silent) as gateway:
        async with gateway.connect() as socket:
            session_id = (await start(socket))["session_id"]
            assert "not known" in (await refusal(socket, frame(0)))["message"]
        async with gateway.connect() as socket:
            ack = await start(socket, resume_session_id=session_id)
            assert ack["last_frame_id"] == -1
            assert (await refusal(socket, frame(0)))["code"] == "frame_id_backwards"


async def test_a_frame_that_a_full_broker_refuses_is_not_stored_and_may_come_again(
    gateway_settings: Settings,
) -> None:
    async with (
        running_gateway(gateway_settings, _Refusing) as gateway,
        gateway.connect() as socket,
    ):
        await start(socket)
        await send(socket, keyframe(0, png(32, 24)))
        error = await refusal(socket, frame(0))
        assert (error["code"], error["message"]) == (
            "overloaded",
            "storage is full; the message was not stored",
        )
        await send(socket, frame(0))
        assert (await heartbeat(socket))["type"] == "heartbeat_ack"
        (entry,) = await gateway.bus.tail(FrameAccepted.STREAM, "0-0", count=9, block_secs=0)
    assert FrameAccepted.decode(entry.data).keyframe_encoding == "png"


async def test_an_id_is_used_up_where_the_socket_goes_before_the_broker_answers(
    gateway_settings: Settings,
) -> None:
    on_its_way = asyncio.Event()

    class Slow(RedisBus):
        """Has the first frame on its way for longer than its socket is there."""

        async def write(self, *operations: Operation) -> None:
            is_frame = any(isinstance(operation, Publish) for operation in operations)
            if is_frame and not on_its_way.is_set():
                on_its_way.set()
                await asyncio.sleep(60)
            await super().write(*operations)

    async with running_gateway(gateway_settings, Slow) as gateway, gateway.connect() as first:
        session_id = (await start(first))["session_id"]
        await send(first, frame(0))
        await on_its_way.wait()
        async with gateway.connect() as second:
            await start(second, resume_session_id=session_id)
            assert (await receive(first))["code"] == "session_taken_over"
            await send(second, frame(0))
            assert (await heartbeat(second)).get("code") == "frame_id_backwards"


async def test_who_resumes_is_told_of_the_frame_that_is_being_written(
    gateway_settings: Settings,
) -> None:
    """It would be counted as lost, though it is stored a moment later."""
    on_its_way = asyncio.Event()

    class Slow(RedisBus):
        """Its writes are done, if late, though their sockets are gone."""

        async def write(self, *operations: Operation) -> None:
            if not any(isinstance(operation, Publish) for operation in operations):
                await super().write(*operations)
                return
            on_its_way.set()
            await asyncio.shield(asyncio.ensure_future(self._late(*operations)))

        async def _late(self, *operations: Operation) -> None:
            await asyncio.sleep(0.2)
            await super().write(*operations)

    async with running_gateway(gateway_settings, Slow) as gateway:
        async with gateway.connect() as first:
            session_id = (await start(first))["session_id"]
            await send(first, frame(0))
            await on_its_way.wait()
        async with gateway.connect() as second:
            assert (await start(second, resume_session_id=session_id))["last_frame_id"] == 0


async def test_a_late_write_does_not_undo_a_newer_one(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus)
    for frame_id in (5, 6, 5):
        await bus.write(remembering(a_session("s"), frame_id))
    (fields,) = await bus.hashes([session_key("s")])
    await bus.close()
    assert fields["last_frame_id"] == b"6"


@pytest.mark.parametrize("bus_class", [RedisBus, _Silent])
async def test_a_keyframe_is_let_go_of_with_its_frame(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch, bus_class: type[RedisBus]
) -> None:
    apps: list[FastAPI] = []

    def kept(settings: Settings, bus: Bus) -> FastAPI:
        apps.append(create_app(settings, bus))
        return apps[-1]

    def session() -> Session:
        (playing,) = apps[0].state.gateway.sessions
        assert isinstance(playing, Session)
        return playing

    monkeypatch.setattr(gateway_program, "create_app", kept)
    async with running_gateway(gateway_settings, bus_class) as gateway, gateway.connect() as socket:
        await start(socket)
        await send(socket, keyframe(5, png(32, 24)))
        await send(socket, frame(4))
        await handled(socket)
        assert session().keyframe is not None
        await send(socket, frame(5))
        await handled(socket)
        assert session().keyframe is None


async def test_a_session_that_only_beats_is_remembered(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A game in its menu sends no frames; recorder and another gateway may have written too."""
    async with Redis.from_url(gateway.settings.bus.url) as redis, gateway.connect() as socket:
        key = session_key((await start(socket))["session_id"])
        await send(socket, frame(0))
        await heartbeat(socket)  # behind the frame; the first one tells who has the session
        await gateway.bus.write(
            Put(key, {"last_frame_id": b"7", "last_recorded_frame_id": b"5"}, ttl_secs=10)
        )
        for _ in range(2):
            assert (await heartbeat(socket))["last_recorded_frame_id"] == 5
        assert await redis.ttl(key) <= 10  # a frame has just renewed it
        monkeypatch.setattr(connection, "REMEMBER_SECS", 0)
        for _ in range(2):  # it is written behind the answer
            await heartbeat(socket)
        assert await redis.ttl(key) > SESSION_TTL_SECS - 60
        (fields,) = await gateway.bus.hashes([key])
    assert (fields["last_frame_id"], fields["last_recorded_frame_id"]) == (b"7", b"5")


async def test_heartbeats_are_answered_where_nothing_can_be_renewed(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoRoom(RedisBus):
        """From the second write on: the first one begins the session."""

        writes = 0

        async def write(self, *operations: Operation) -> None:
            self.writes += 1
            if self.writes > 1:
                raise BusFull("no room")
            await super().write(*operations)

    monkeypatch.setattr(connection, "REMEMBER_SECS", 0)
    async with running_gateway(gateway_settings, NoRoom) as gateway, gateway.connect() as socket:
        await start(socket)
        for _ in range(3):
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"
        assert isinstance(gateway.bus, NoRoom)
        assert gateway.bus.writes > 1
