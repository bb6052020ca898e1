"""What tests say to a gateway over a socket, in JSON."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import numpy as np
from PIL import Image

from integration.conftest import ClientConnection
from sgaps.messages import CoordinatesChosen
from sgaps.packing import pack_floats

START = {
    "type": "session_start",
    "checkpoint_key": "doom",
    "resolution": {"width": 32, "height": 24},
    "max_state_dim": 64,
}


def frame(frame_id: int, **fields: object) -> dict[str, object]:
    return {
        "type": "frame_data",
        "frame_id": frame_id,
        "pixels": [[0.5, 0.5, 0.25]],
        "state_vector": [1.0, -999.0],
        "resolution": [32, 24],
        "timestamp": 1.0,
        **fields,
    }


async def send(socket: ClientConnection, message: object) -> None:
    await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


async def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def start(socket: ClientConnection, **fields: object) -> dict[str, Any]:
    await send(socket, {**START, **fields})
    ack = await receive(socket)
    if ack["type"] == "session_start_ack":
        assert (await receive(socket))["type"] == "uv_coordinates"
    return ack


async def refusal(socket: ClientConnection, message: object) -> dict[str, Any]:
    await send(socket, message)
    error = await receive(socket)
    assert error["type"] == "error"
    return error


async def heartbeat(socket: ClientConnection) -> dict[str, Any]:
    """An answer to this shows that everything sent before it was handled."""
    await send(socket, {"type": "heartbeat", "timestamp": 5.0})
    return await receive(socket)


def png(width: int, height: int) -> str:
    data = io.BytesIO()
    Image.new("L", (width, height), 90).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def keyframe(frame_id: int, data: str, *, encoding: str = "png") -> dict[str, object]:
    return {"type": "keyframe", "frame_id": frame_id, "encoding": encoding, "data": data}


def chosen(session_id: str, frame_id: int, **fields: Any) -> CoordinatesChosen:
    """What a sampler answers."""
    return CoordinatesChosen(
        **{
            "session_id": session_id,
            "gateway_id": "main",
            "frame_id": frame_id,
            "coordinate_set_id": 2 * frame_id + 2,
            "coords_bytes": pack_floats(np.array([[0.25, 0.75]])),
            "footprint_bytes": b"",
            "importance_width": 2,
            "importance_height": 1,
            "importance": b"\x00\xff",
            "model_version": "v1",
            "predicted_psnr_db": None,
            "received_at_secs": time.time(),
            **fields,
        }
    )
