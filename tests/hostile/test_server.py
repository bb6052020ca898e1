"""A hostile server: the Python client refuses it with a ProtocolError, and no game crashes."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from sgaps.errors import ProtocolError
from sgaps.protocol import binary_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.sampling.footprints import FOOTPRINTS_PX, sample_image
from sgaps_client.client import SgapsClient
from sgaps_client.state import SessionConfig
from waiting import PATIENCE_SECS

IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
ACK: dict[str, Any] = {
    "type": "session_start_ack",
    "session_id": "s-1",
    "checkpoint_loaded": True,
    "sample_count": 1,
    "max_state_dim": 8,
    "target_fps": 100,
    "model_version": "v1",
    "coordinate_set_id": 1,
    "keyframe_interval": 0,
    "resumed": False,
}
SET: dict[str, Any] = {
    "type": "uv_coordinates",
    "frame_id": -1,
    "coords": [[0.5, 0.5]],
    "coordinate_set_id": 1,
    "model_version": "v1",
}
BEAT = {"type": "heartbeat_ack", "timestamp": 1, "server_time": 2, "last_recorded_frame_id": -1}


def raw(message: dict[str, Any], **fields: object) -> str:
    return json.dumps({**message, **fields})


BAD_ACKS = {
    "another session is resumed": raw(ACK, resumed=True),
    "negative last frame": raw(ACK, last_frame_id=-(10**12)),
    "huge last frame": raw(ACK, last_frame_id=2**53),
    "session id is a path": raw(ACK, session_id="../x"),
    "negative state": raw(ACK, max_state_dim=-5),
    "no rate": raw(ACK, target_fps=0),
    "rate of almost nothing": raw(ACK, target_fps=1e-300),
    "rate is nan": raw(ACK, target_fps=float("nan")),
    "negative set": raw(ACK, coordinate_set_id=-1),
    "version is a book": raw(ACK, model_version="v" * 10**6),
    "a set instead": raw(SET),
    "no JSON": "{",
    "nested": "[" * 100_000,
    "null": "null",
}
BAD_SETS: dict[str, str | bytes] = {
    "u is nan": raw(SET, coords=[[float("nan"), 0]]),
    "v is infinite": raw(SET, coords=[[0, float("inf")]]),
    "u overflows": raw(SET, coords=[[1e39, 0]]),
    "u below 0": raw(SET, coords=[[-0.01, 0.5]]),
    "v above 1": raw(SET, coords=[[0.5, 1.5]]),
    "one number": raw(SET, coords=[[0.5]]),
    "footprint 0": raw(SET, coords=[[0.5, 0.5, 0]]),
    "footprint 3": raw(SET, coords=[[0.5, 0.5, 3]]),
    "footprint 128": raw(SET, coords=[[0.5, 0.5, 128]]),
    "footprint -1": raw(SET, coords=[[0.5, 0.5, -1]]),
    "footprint 10^400": raw(SET, coords=[[0.5, 0.5, 10**400]]),
    "too many": raw(SET, coords=[[0, 0]] * 65536),
    "negative frame": raw(SET, frame_id=-2),
    "huge frame": raw(SET, frame_id=2**60),
    "huge set": raw(SET, coordinate_set_id=2**53),
    "psnr is nan": raw(SET, predicted_psnr=float("nan")),
    "map lies": raw(SET, importance_map={"width": 9, "height": 9, "data": "AP8="}),
    "map is no base64": raw(SET, importance_map={"width": 1, "height": 1, "data": "\u00e4"}),
    "binary nothing": b"",
    "binary of a client": b"SG\x01\x01" + bytes(40),
    "binary torn": b"SG\x01\x03" + bytes(10),
    "binary lies about its length": b"SG\x01\x03" + b"\xff" * 60,
    "heartbeat of no rate": raw(BEAT, target_fps=0),
    "negative pause": raw({"type": "error", "code": "x", "message": "m", "retry_after_secs": -1}),
    "unknown type": raw({"type": "shutdown"}),
    "lone surrogate": '{"type":"error","code":"x","message":"\\ud800"}',
}


async def play_with(*replies: str | bytes, frames: int | None = None) -> list[str | bytes]:
    """So many frames, or until it refuses, to a server that says this, whatever it hears: that."""
    heard: list[str | bytes] = []

    async def answer(socket: ServerConnection) -> None:
        heard.append(await socket.recv())
        for reply in replies:
            await socket.send(reply)
        with suppress(ConnectionClosed):  # a client that refuses may just go
            async for message in socket:
                heard.append(message)

    async with serve(answer, "127.0.0.1", 0, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        config = SessionConfig(
            url=f"ws://127.0.0.1:{port}/ws/stream",
            checkpoint_key="k",
            width=8,
            height=6,
            state_dim=3,
        )
        async with asyncio.timeout(PATIENCE_SECS), SgapsClient(config) as client:
            for _ in range(frames) if frames else itertools.count():
                await client.send_frame(IMAGE, np.ones(3, np.float32), keyframe_png=None)
                await asyncio.sleep(0.02)
    return heard


async def test_a_friendly_server_is_played_with() -> None:
    start, *frames = await play_with(raw(ACK), raw(SET), frames=2)
    assert '"session_start"' in str(start)
    assert len([frame for frame in frames if '"frame_data"' in str(frame)]) == 2


@pytest.mark.parametrize("ack", BAD_ACKS.values(), ids=BAD_ACKS.keys())
async def test_a_hostile_start_is_refused(ack: str) -> None:
    with pytest.raises(ProtocolError):
        await play_with(ack, raw(SET))


@pytest.mark.parametrize("reply", BAD_SETS.values(), ids=BAD_SETS.keys())
async def test_a_hostile_first_answer_is_refused(reply: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        await play_with(raw(ACK), reply)


@pytest.mark.parametrize("reply", BAD_SETS.values(), ids=BAD_SETS.keys())
async def test_a_hostile_later_answer_is_refused(reply: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        await play_with(raw(ACK), raw(SET), reply)


@pytest.mark.parametrize("side_px", FOOTPRINTS_PX)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 6), (64, 64)])
def test_a_square_on_any_border_has_the_mean_of_what_is_inside(
    size: tuple[int, int], side_px: int
) -> None:
    image = np.full(size[::-1], 200, np.uint8)
    ends = (0.0, float(np.nextafter(np.float32(1), np.float32(0))), 1.0)
    coords = np.array([(u, v, side_px) for u in ends for v in ends], np.float32)
    np.testing.assert_allclose(sample_image(image, coords)[:, 2], 200 / 255, rtol=1e-6)


def test_a_set_without_coordinates_is_a_frame_without_samples() -> None:
    empty = CoordinateSet(
        frame_id=-1,
        coordinate_set_id=1,
        coords=np.empty((0, 3), np.float32),
        footprints=False,
        importance=None,
        model_version="v",
        predicted_psnr_db=None,
    )
    read = binary_codec.decode_server_message(binary_codec.encode_coordinates(empty))
    assert sample_image(IMAGE, read.coords).shape == (0, 4)
