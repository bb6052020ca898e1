"""Every error code: reached over a real socket, and told as docs/protocol.md has it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from integration.conftest import RunningGateway, running_gateway, with_changes
from integration.talk import START, frame, heartbeat, keyframe, receive, refusal, send, start
from paths import GOLDEN, ROOT
from sgaps.bus import Operation, Publish, RedisBus
from sgaps.errors import ErrorCode
from sgaps.messages import FrameAccepted
from sgaps.protocol import binary_codec
from sgaps.settings import Settings
from waiting import PATIENCE_SECS, eventually

DOCUMENT = ROOT / "docs" / "protocol.md"
UNLUCKY_FRAME_ID = 13

Answer: TypeAlias = dict[str, Any]


class BrokenBus(RedisBus):
    """Makes a mistake at one frame."""

    async def write(self, *operations: Operation) -> None:
        for operation in operations:
            message = operation.message if isinstance(operation, Publish) else None
            if isinstance(message, FrameAccepted) and message.frame_id == UNLUCKY_FRAME_ID:
                raise ZeroDivisionError
        await super().write(*operations)


def first(message: object) -> Callable[[RunningGateway], Awaitable[Answer]]:
    """The answer to a first message."""

    async def talk(gateway: RunningGateway) -> Answer:
        async with gateway.connect() as socket:
            return await refusal(socket, message)

    return talk


def playing(*messages: object) -> Callable[[RunningGateway], Awaitable[Answer]]:
    """The answer to the last of some messages in a session."""

    async def talk(gateway: RunningGateway) -> Answer:
        async with gateway.connect() as socket:
            await start(socket)
            for message in messages[:-1]:
                await send(socket, message)
            return await refusal(socket, messages[-1])

    return talk


async def unknown_set(gateway: RunningGateway) -> Answer:
    subprotocols = [Subprotocol(binary_codec.SUBPROTOCOL)]
    async with connect(gateway.ws_url, subprotocols=subprotocols) as socket:
        await send(socket, START)
        await socket.recv()
        first_set = await socket.recv()
        assert isinstance(first_set, bytes)
        return await refusal(socket, (GOLDEN / "frame_data.bin").read_bytes())


async def mismatch(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as socket, gateway.connect() as other:
        session_id = (await start(socket))["session_id"]
        resume = {**START, "checkpoint_key": "other", "resume_session_id": session_id}
        return await refusal(other, resume)


async def taken_over(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as old, gateway.connect() as new:
        await start(new, resume_session_id=(await start(old))["session_id"])
        return await receive(old)


async def full(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as socket, gateway.connect() as other:
        await start(socket)
        return await refusal(other, START)


async def wrong_origin(gateway: RunningGateway) -> Answer:
    async with gateway.connect(Origin="https://evil.example") as socket:
        return await receive(socket)


async def silence(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as socket:
        return await receive(socket)


async def overloaded(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as socket:
        await start(socket)
        frame_ids = iter(range(UNLUCKY_FRAME_ID + 1, 1000))
        answers: list[Answer] = []

        async def refused() -> bool:
            await send(socket, frame(next(frame_ids)))
            answers.append(await heartbeat(socket))
            return bool(answers[-1]["type"] == "error")

        await eventually(refused)
        return answers[-1]


async def shutting_down(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as socket:
        await start(socket)
        gateway.stop.set()
        return await receive(socket)


async def internal(gateway: RunningGateway) -> Answer:
    async with gateway.connect() as good, gateway.connect() as unlucky:
        await start(good)
        await start(unlucky)
        error = await refusal(unlucky, frame(UNLUCKY_FRAME_ID))
        await unlucky.wait_closed()
        assert unlucky.close_code == 1011
        await send(good, frame(0))
        assert (await heartbeat(good))["type"] == "heartbeat_ack"
        return error


@dataclass(frozen=True)
class Way:
    """How a code is reached."""

    talk: Callable[[RunningGateway], Awaitable[Answer]]
    server: dict[str, object] = field(default_factory=dict)
    bus: dict[str, object] = field(default_factory=dict)


WAYS = {
    ErrorCode.BAD_JSON: Way(playing("{")),
    ErrorCode.BAD_MESSAGE: Way(playing({"type": "heartbeat"})),
    ErrorCode.UNKNOWN_TYPE: Way(playing({"type": "x"})),
    ErrorCode.MESSAGE_TOO_LARGE: Way(playing("x" * 101), {"max_message_bytes": 100}),
    ErrorCode.NO_SESSION: Way(first(frame(0))),
    ErrorCode.SESSION_EXISTS: Way(playing(START)),
    ErrorCode.SESSION_NOT_FOUND: Way(first({**START, "resume_session_id": "nobody"})),
    ErrorCode.SESSION_MISMATCH: Way(mismatch),
    ErrorCode.SESSION_TAKEN_OVER: Way(taken_over),
    ErrorCode.TOO_MANY_SESSIONS: Way(full, {"max_sessions": 1}),
    ErrorCode.UNAUTHORIZED: Way(first(START), {"auth_token": "secret"}),
    ErrorCode.ORIGIN_REFUSED: Way(wrong_origin),
    ErrorCode.START_TIMEOUT: Way(silence, {"session_start_timeout_secs": 0.1}),
    ErrorCode.FRAME_ID_BACKWARDS: Way(playing(frame(5), frame(5))),
    ErrorCode.RESOLUTION_MISMATCH: Way(playing(frame(0, resolution=[9, 9]))),
    ErrorCode.TOO_MANY_SAMPLES: Way(playing(frame(0, pixels=[[0, 0, 0]] * 501))),
    ErrorCode.STATE_TOO_LONG: Way(playing(frame(0, state_vector=[0] * 65))),
    ErrorCode.BAD_KEYFRAME: Way(playing(keyframe(0, "AAAA"))),
    ErrorCode.UNKNOWN_SET: Way(unknown_set),
    ErrorCode.RATE_LIMITED: Way(playing(frame(0), frame(1)), {"max_frame_rate": 0.2}),
    ErrorCode.OVERLOADED: Way(overloaded, bus={"max_backlog": 1}),
    ErrorCode.SHUTTING_DOWN: Way(shutting_down),
    ErrorCode.INTERNAL: Way(internal),
}


@dataclass(frozen=True)
class Row:
    """What the table says of a code."""

    fatal: bool
    retry_after: bool


def table() -> dict[str, Row]:
    rows = re.findall(
        r"^\| `(\w+)` \| .* \| (yes|no)\b.* \| (yes|no)\b.* \| .* \|$",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )
    return {code: Row(fatal == "yes", retry == "yes") for code, fatal, retry in rows}


def test_the_document_and_the_tests_know_every_code() -> None:
    assert set(table()) == set(WAYS) == set(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode), ids=str)
async def test_a_code_is_reached_and_is_what_the_document_says(
    gateway_settings: Settings, code: ErrorCode
) -> None:
    way = WAYS[code]
    settings = with_changes(gateway_settings, server=way.server, bus=way.bus)
    async with running_gateway(settings, BrokenBus) as gateway, asyncio.timeout(PATIENCE_SECS):
        error = await way.talk(gateway)
    assert error["code"] == code
    assert error["message"]
    row = table()[code]
    assert error["fatal"] is row.fatal
    assert (error["retry_after_secs"] is not None) is row.retry_after
