"""Slow, dead and greedy clients: each costs itself its connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import base64
import io
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode

from gateway.limits import REFUSALS_AT_ONCE
from gateway.transport import MAX_FRAGMENTS, PINGS_PER_SEC, UNSEEN_AT_ONCE
from integration.conftest import RunningGateway, running_gateway, with_changes
from integration.raw_client import HANDSHAKE, RawClient, raw_client
from integration.talk import (
    chosen,
    frame,
    heartbeat,
    keyframe,
    png,
    receive,
    refusal,
    send,
    start,
)
from sgaps.bus import Publish
from sgaps.messages import FrameAccepted
from sgaps.packing import pack_floats
from sgaps.settings import Settings
from sgaps.whole_frames import picture_of
from waiting import eventually

CLIENT_TIMEOUT_SECS = 1.0
SOON_SECS = 8.0
"""Sooner than anything else would end a connection."""
LARGE_SET = pack_floats(np.full((500, 2), 1 / 3))


@pytest.fixture
async def impatient(gateway_settings: Settings) -> AsyncIterator[RunningGateway]:
    """It pings rarely: who is cut off is cut off for another reason."""
    server = {"client_timeout_secs": CLIENT_TIMEOUT_SECS, "ping_interval_secs": 60}
    async with running_gateway(with_changes(gateway_settings, server=server)) as gateway:
        yield gateway


async def is_connected(gateway: RunningGateway, session_id: str) -> bool:
    async with httpx.AsyncClient() as http:
        status = await http.get(f"{gateway.http_url}/api/sessions/{session_id}")
        return bool(status.json()["connected"])


async def answer_in_vain(gateway: RunningGateway, session_id: str, count: int) -> None:
    """Coordinates of 10 kB each for a session."""
    answers = [chosen(session_id, n, coords_bytes=LARGE_SET) for n in range(count)]
    for answer in answers:
        await gateway.bus.write(Publish(answer))


async def test_a_client_that_stops_reading_is_dropped_alone(impatient: RunningGateway) -> None:
    async with impatient.connect() as good, raw_client(impatient) as slow:
        await start(good)
        session_id = await slow.start()
        tracemalloc.start()
        answering = asyncio.create_task(answer_in_vain(impatient, session_id, 2000))
        latencies_secs = []
        while await is_connected(impatient, session_id):
            began_at_secs = time.monotonic()
            assert (await heartbeat(good))["type"] == "heartbeat_ack"
            latencies_secs.append(time.monotonic() - began_at_secs)
            await asyncio.sleep(0.02)
        await answering
        await send(good, frame(0))
        assert (await heartbeat(good))["type"] == "heartbeat_ack"
        _, most_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    ledger = await impatient.bus.ledger()
    # How many had no room in the outbox, and how many came when it was gone, is a matter of speed.
    assert ledger.get("client_slow", 0) + ledger.get("session_gone", 0) > 0
    assert np.percentile(latencies_secs, 99) < CLIENT_TIMEOUT_SECS * 0.9
    # 20 MB were meant for the slow one, and were not kept for it.
    assert most_bytes < 6_000_000


async def test_a_client_that_answers_no_ping_is_dropped(gateway_settings: Settings) -> None:
    server = {"client_timeout_secs": 0.5, "ping_interval_secs": 0.5}
    settings = with_changes(gateway_settings, server=server)
    async with (
        running_gateway(settings) as gateway,
        gateway.connect() as good,
        raw_client(gateway) as dead,
    ):
        await start(good)
        began_at_secs = time.monotonic()
        session_id = await dead.start()

        async def gone() -> bool:
            return not await is_connected(gateway, session_id)

        await eventually(gone)
        dropped_after_secs = time.monotonic() - began_at_secs
        # The library of the good one answers pings.
        assert (await heartbeat(good))["type"] == "heartbeat_ack"
    assert 0.9 < dropped_after_secs < SOON_SECS


async def test_half_a_request_is_not_waited_for(impatient: RunningGateway) -> None:
    async with raw_client(impatient) as silent, raw_client(impatient) as half:
        await half.send(HANDSHAKE.encode()[:40])
        began_at_secs = time.monotonic()
        assert await silent.receive_all() == b""
        assert await half.receive_all() == b""
        assert CLIENT_TIMEOUT_SECS * 0.9 < time.monotonic() - began_at_secs < SOON_SECS


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("Cookie: " + "a" * 10_000, b"HTTP/1.1 431 "),
        ("X: 1\r\n" * 199 + "X: 1", b"HTTP/1.1 431 "),
        ("Content-Length: 5", b"HTTP/1.1 400 "),
        ("Transfer-Encoding: chunked", b"HTTP/1.1 400 "),
    ],
)
async def test_an_upgrade_that_cannot_be_read_is_answered(
    gateway: RunningGateway, header: str, answer: bytes
) -> None:
    async with raw_client(gateway) as client:
        await client.send(HANDSHAKE.replace("Host: x", f"Host: x\r\n{header}").encode())
        assert (await client.receive_all()).startswith(answer)


async def test_requests_one_after_the_other_are_answered(impatient: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=impatient.http_url) as http:
        for _ in range(5):
            assert (await http.get("/api/health")).status_code == 200
            await asyncio.sleep(CLIENT_TIMEOUT_SECS / 2)


async def test_a_response_that_nobody_reads_is_not_kept(impatient: RunningGateway) -> None:
    async with raw_client(impatient) as slow:
        with suppress(ConnectionError):
            async with asyncio.timeout(20):
                while True:
                    await slow.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                    await asyncio.sleep(0)
    async with httpx.AsyncClient(base_url=impatient.http_url) as http:
        assert (await http.get("/api/health")).status_code == 200


async def pings(client: RawClient) -> None:
    for _ in range(5 * PINGS_PER_SEC):
        await client.send_frame(Opcode.PING, b"x" * 125)


async def endless_fragments(client: RawClient) -> None:
    await client.send_frame(Opcode.TEXT, b"", fin=False)
    for _ in range(MAX_FRAGMENTS):
        await client.send_frame(Opcode.CONT, b"", fin=False)


async def pongs(client: RawClient) -> None:
    await client.send(2 * UNSEEN_AT_ONCE * masked(Opcode.PONG))


async def many_fragments(client: RawClient) -> None:
    """Of a few messages, each of which is finished."""
    begin = masked(Opcode.TEXT, fin=False)
    go_on, end = masked(Opcode.CONT, fin=False), masked(Opcode.CONT)
    await client.send(4 * (begin + (MAX_FRAGMENTS // 2) * go_on + end))


def masked(opcode: Opcode, *, fin: bool = True) -> bytes:
    """An empty frame."""
    return Frame(opcode, b"", fin=fin).serialize(mask=True)


async def unfinished(client: RawClient) -> None:
    await client.send_frame(Opcode.TEXT, b"{", fin=False)


async def no_text(client: RawClient) -> None:
    await client.send_frame(Opcode.TEXT, b"\xff")


async def no_frame(client: RawClient) -> None:
    await client.send(b"\xff" * 100)


async def unmasked(client: RawClient) -> None:
    await client.send(b"\x81\x02{}")


@pytest.mark.parametrize(
    ("misbehave", "code", "close_code"),
    [
        (pings, b"bad_message", CloseCode.POLICY_VIOLATION),
        (pongs, b"bad_message", CloseCode.POLICY_VIOLATION),
        (many_fragments, b"bad_message", CloseCode.POLICY_VIOLATION),
        (endless_fragments, b"message_too_large", CloseCode.MESSAGE_TOO_BIG),
        (no_text, b"bad_message", CloseCode.INVALID_DATA),
        (no_frame, b"bad_message", CloseCode.PROTOCOL_ERROR),
        (unmasked, b"bad_message", CloseCode.PROTOCOL_ERROR),
    ],
)
async def test_what_is_no_message_is_refused_below_the_protocol(
    gateway: RunningGateway,
    misbehave: Callable[[RawClient], Awaitable[None]],
    code: bytes,
    close_code: CloseCode,
) -> None:
    async with gateway.connect() as good, raw_client(gateway) as bad:
        await start(good)
        await bad.start()
        await misbehave(bad)
        told, _, closed = (await bad.receive_all()).rpartition(b"\x88")
        assert b'"code":"%s"' % code in told
        assert b'"fatal":true' in told
        assert int.from_bytes(closed[1:3]) == close_code
        assert (await heartbeat(good))["type"] == "heartbeat_ack"


async def test_who_floods_a_closed_socket_is_cut_off(gateway: RunningGateway) -> None:
    """What comes there is read until the client has closed, too."""
    async with raw_client(gateway) as bad:
        await bad.send(HANDSHAKE.encode())
        await bad.send_frame(Opcode.TEXT, b"{")
        await bad.receive_until(b'"fatal":true')
        began_at_secs = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began_at_secs < 2 * SOON_SECS:
                await bad.send(1000 * masked(Opcode.TEXT))
                await asyncio.sleep(0.01)
        assert time.monotonic() - began_at_secs < SOON_SECS


async def test_a_message_that_is_never_finished_is_not_kept(impatient: RunningGateway) -> None:
    """Between its fragments a client may answer every ping."""
    async with impatient.connect() as good, raw_client(impatient) as bad:
        await start(good)
        session_id = await bad.start()
        began_at_secs = time.monotonic()
        await unfinished(bad)
        keeping = asyncio.create_task(_go_on(bad))
        told = await bad.receive_until(b'"code":"bad_message"')
        assert CLIENT_TIMEOUT_SECS * 0.9 < time.monotonic() - began_at_secs < SOON_SECS
        assert b'"fatal":true' in told
        assert b"not finished in time" in told
        keeping.cancel()
        await bad.receive_all()
        assert not await is_connected(impatient, session_id)
        assert (await heartbeat(good))["type"] == "heartbeat_ack"


async def _go_on(client: RawClient) -> None:
    """With empty fragments and pongs."""
    while True:
        await client.send_frame(Opcode.PONG, b"")
        await client.send_frame(Opcode.CONT, b"", fin=False)
        await asyncio.sleep(0.1)


async def test_messages_in_fragments_may_go_on_for_ever(impatient: RunningGateway) -> None:
    """Each has its own time, though one begins in the bytes that another ends in."""
    first, last = Frame(Opcode.TEXT, b"{", fin=False), Frame(Opcode.CONT, b"", fin=True)
    joint = last.serialize(mask=True) + first.serialize(mask=True)
    async with raw_client(impatient) as client:
        session_id = await client.start()
        await client.send(first.serialize(mask=True))
        for _ in range(6):
            await asyncio.sleep(CLIENT_TIMEOUT_SECS / 3)
            await client.send(joint)
            await client.receive_until(b'"code":"bad_json"')
        assert await is_connected(impatient, session_id)


async def test_a_long_message_of_a_session_is_refused_unread(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"max_message_bytes": 100_000})
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        await start(socket)
        error = await refusal(socket, keyframe(0, "A" * 99_000))
        assert (error["code"], error["fatal"]) == ("bad_keyframe", False)
        error = await refusal(socket, keyframe(0, "A" * 101_000))
        assert (error["code"], error["fatal"]) == ("message_too_large", True)
        await socket.wait_closed()
    assert socket.close_code == 1009


async def test_a_silent_connection_is_closed(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"session_start_timeout_secs": 0.5})
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        assert (await receive(socket))["code"] == "start_timeout"
        await socket.wait_closed()


async def test_a_resumed_session_has_what_was_left_of_its_limits(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, server={"max_frame_rate": 0.2})
    async with running_gateway(settings) as gateway:
        async with gateway.connect() as socket:
            session_id = (await start(socket))["session_id"]
            await send(socket, frame(0))
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"
        async with gateway.connect() as socket:
            await start(socket, resume_session_id=session_id)
            await send(socket, frame(1))
            assert (await heartbeat(socket)).get("code") == "rate_limited"
        async with gateway.connect() as socket:
            await start(socket)
            await send(socket, frame(0))
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"


async def test_too_many_frames_are_slowed_down(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"max_frame_rate": 0.2})
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        await start(socket)
        await send(socket, frame(0))
        error = await refusal(socket, frame(1))
    assert error["code"] == "rate_limited"
    assert 0 < error["retry_after_secs"] <= 5


@pytest.mark.parametrize("message", [{"type": "heartbeat", "timestamp": 1}, "{", frame(0)])
async def test_who_never_stops_is_closed(gateway: RunningGateway, message: object) -> None:
    """Whatever the messages are: more than 130 in a second are refused unread."""
    async with gateway.connect() as good, gateway.connect() as greedy:
        await start(good)
        await start(greedy)
        answers = asyncio.create_task(_answers_until_fatal(greedy.__aiter__()))
        with suppress(ConnectionClosed):
            for _ in range(5000):
                await send(greedy, message)
        refused = await answers
        assert (await heartbeat(good))["type"] == "heartbeat_ack"
    assert REFUSALS_AT_ONCE - 70 <= refused < REFUSALS_AT_ONCE + 200


async def _answers_until_fatal(answers: AsyncIterator[str | bytes]) -> int:
    """How many refusals there were before the last one."""
    refused = 0
    async for answer in answers:
        if '"fatal":true' in str(answer):
            assert '"code":"rate_limited"' in str(answer)
            return refused
        refused += '"type":"error"' in str(answer)
    raise AssertionError("closed without a word")


async def test_a_message_of_many_values_is_refused_unread(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        await start(socket)
        began_at_secs = time.monotonic()
        error = await refusal(socket, frame(0, pixels=[[2, 2, 2]] * 100_000))
        assert time.monotonic() - began_at_secs < 5  # to build them all took 26 s
    assert (error["code"], error["fatal"]) == ("too_many_samples", False)


async def test_keyframes_come_no_faster_than_asked_for(gateway_settings: Settings) -> None:
    server = {"max_frame_rate": 10, "keyframe_interval": 50}
    settings = with_changes(gateway_settings, server=server)
    picture = png(32, 24)
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        await start(socket)
        await send(socket, keyframe(0, picture))
        await send(socket, frame(0))
        error = await refusal(socket, keyframe(1, picture))
        await send(socket, frame(1))
        assert (await heartbeat(socket))["type"] == "heartbeat_ack"
    assert (error["code"], error["fatal"]) == ("bad_keyframe", False)
    assert 0 < error["retry_after_secs"] <= 5


async def test_a_large_picture_is_asked_for_no_keyframes(gateway_settings: Settings) -> None:
    large = {"resolution": {"width": 640, "height": 480}}
    settings = with_changes(gateway_settings, server={"max_keyframe_pixels": 640 * 480 - 1})
    async with (
        running_gateway(settings) as gateway,
        gateway.connect() as socket,
        gateway.connect() as small,
    ):
        ack = await start(socket, **large)
        error = await refusal(socket, keyframe(0, "AAAA"))
        assert (ack["keyframe_interval"], (await start(small))["keyframe_interval"]) == (0, 5)
    assert (error["code"], error["fatal"]) == ("bad_keyframe", False)


async def test_where_no_keyframes_are_asked_for_none_are_taken(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"keyframe_interval": 0})
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        ack = await start(socket)
        await send(socket, keyframe(0, png(32, 24)))
        await send(socket, frame(0))
        error = await heartbeat(socket)
        assert (error.get("code"), error.get("fatal")) == ("bad_keyframe", False)
        assert (await receive(socket))["type"] == "heartbeat_ack"
        (entry,) = await gateway.bus.tail(FrameAccepted.STREAM, "0-0", count=9, block_secs=0)
    assert ack["keyframe_interval"] == 0
    assert FrameAccepted.decode(entry.data).keyframe == b""


async def test_a_jpeg_has_only_so_many_scans(gateway: RunningGateway) -> None:
    scans = "/9r/" * 1000  # ff da ff ...
    async with gateway.connect() as socket:
        await start(socket)
        error = await refusal(socket, keyframe(0, scans, encoding="jpeg"))
    assert error["code"] == "bad_keyframe"
    assert "scans" in error["message"]


async def test_a_taken_over_session_is_lost_to_a_client_that_does_not_read(
    impatient: RunningGateway,
) -> None:
    """Its outbox is full: what ends it does not wait there."""
    async with raw_client(impatient) as slow:
        session_id = await slow.start()
        await answer_in_vain(impatient, session_id, 700)
        async with impatient.connect() as new:
            assert (await start(new, resume_session_id=session_id))["resumed"]
            await eventually(lambda: _is_reset(slow))
            assert await is_connected(impatient, session_id)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    body = kind + data
    return len(data).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)


def with_palettes(gray: bytes, *palettes: bytes) -> bytes:
    """The same PNG, its values as places in palettes before its pixels."""
    header = gray[16:25] + b"\3" + gray[26:29]
    parts = [gray[:8], chunk(b"IHDR", header), *(chunk(b"PLTE", p) for p in palettes), gray[33:]]
    return b"".join(parts)


async def _is_reset(client: RawClient) -> bool:
    try:
        await client.send_frame(Opcode.PONG, b"")
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: whole[:-4],  # without the checksum of its end
        lambda whole: whole[:-12],  # without its end
        lambda whole: whole[:-13] + bytes([whole[-13] ^ 1]) + whole[-12:],  # its pixels' checksum
        lambda whole: whole[:33] + chunk(b"SGAP", b"?") + whole[33:],  # unknown, and critical
        lambda whole: whole[:33] + chunk(b"gap5", b"?") + whole[33:],  # no name of letters
        lambda whole: whole[:33] + whole[8:],  # its header twice
        lambda whole: whole[:8] + chunk(b"tEXt", b"a\0b") + whole[8:],  # before its header
        lambda whole: whole[:8] + chunk(b"IHDR", whole[16:26] + b"\1\0\0") + whole[33:],
        lambda whole: whole[:33] + chunk(b"bKGD", b"") + whole[33:],  # a background of no colour
        lambda whole: whole[:33] + chunk(b"acTL", b"x" * 26) + whole[33:],  # too many frames
        with_palettes,  # none
        lambda whole: with_palettes(whole, b""),
        lambda whole: with_palettes(whole, bytes(4)),
        lambda whole: with_palettes(whole, bytes(768), bytes(768)),
        lambda whole: with_palettes(whole)[:-12] + chunk(b"PLTE", bytes(768)) + whole[-12:],
    ],
)
async def test_a_png_that_only_pillow_reads_is_refused(
    gateway: RunningGateway, spoil: Callable[[bytes], bytes]
) -> None:
    """The trainer could not decode it."""
    spoiled = spoil(base64.b64decode(png(32, 24)))
    Image.open(io.BytesIO(spoiled)).load()
    assert picture_of(spoiled, 32, 24) is None
    async with gateway.connect() as socket:
        await start(socket)
        error = await refusal(socket, keyframe(0, base64.b64encode(spoiled).decode()))
        assert (error["code"], error["fatal"]) == ("bad_keyframe", False)
        await send(socket, keyframe(0, png(32, 24)))
        assert (await heartbeat(socket))["type"] == "heartbeat_ack"


async def test_a_png_with_a_palette_is_taken(gateway: RunningGateway) -> None:
    picture = with_palettes(base64.b64decode(png(32, 24)), bytes(768))
    assert picture_of(picture, 32, 24) is not None
    async with gateway.connect() as socket:
        await start(socket)
        await send(socket, keyframe(0, base64.b64encode(picture).decode()))
        assert (await heartbeat(socket))["type"] == "heartbeat_ack"
