"""The least that any gateway does: take messages from sockets, add each to a stream.

`python -m sgaps_cli.bench.floor PORT REDIS_URL`. Nothing is checked, counted or answered, but for
what the load generator needs to begin and to end: session_start and heartbeats.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import msgspec
import numpy as np
import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import HeartbeatAck, SessionStartAck

SAMPLES = 500
STREAM = "floor"
NOWHERE_YET = CoordinateSet(
    frame_id=-1,
    coordinate_set_id=1,
    coords=np.ones((SAMPLES, 3), np.float32),
    footprints=False,
    importance=None,
    model_version="none",
    predicted_psnr_db=None,
)


def app(redis_url: str) -> Starlette:
    """The whole server."""
    redis = Redis.from_url(redis_url)

    async def stream(socket: WebSocket) -> None:
        offered = socket.scope["subprotocols"][0]
        await socket.accept(subprotocol=offered)
        try:
            while True:
                await _take(socket, await socket.receive(), redis)
        except WebSocketDisconnect:
            pass

    return Starlette(routes=[WebSocketRoute("/ws/stream", stream)])


async def _take(socket: WebSocket, event: MutableMapping[str, Any], redis: Redis) -> None:
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    data, text = event.get("bytes"), event.get("text")
    if isinstance(data, bytes):
        await redis.xadd(STREAM, {"d": data})
        return
    message = msgspec.json.decode(str(text))
    match message["type"]:
        case "frame_data":
            await redis.xadd(STREAM, {"d": str(text)})
        case "session_start":
            await begin(socket, NOWHERE_YET)
        case _:
            ack = HeartbeatAck(timestamp=0, server_time=0, last_recorded_frame_id=-1, target_fps=10)
            await socket.send_text(json_codec.encode(ack))


async def begin(socket: WebSocket, chosen: CoordinateSet) -> None:
    """What a client is told of its session, and the set that it starts with."""
    ack = SessionStartAck(
        session_id="floor",
        checkpoint_loaded=False,
        sample_count=len(chosen.coords),
        max_state_dim=64,
        target_fps=10,
        model_version=chosen.model_version,
        coordinate_set_id=chosen.coordinate_set_id,
        keyframe_interval=0,
        resumed=False,
    )
    await socket.send_text(json_codec.encode(ack))
    if socket.scope["subprotocols"][0] == binary_codec.SUBPROTOCOL:
        await socket.send_bytes(binary_codec.encode_coordinates(chosen))
    else:
        await socket.send_text(json_codec.encode_coordinates(chosen))


def serve(application: Starlette, port: int) -> None:
    """The same server with the same switches as the gateway's."""
    uvicorn.run(
        application,
        port=port,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_queue=4,
        ws_per_message_deflate=False,
    )


if __name__ == "__main__":
    serve(app(sys.argv[2]), int(sys.argv[1]))
