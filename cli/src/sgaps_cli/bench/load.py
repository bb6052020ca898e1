"""Frames as fast as a server takes them: `python -m sgaps_cli.bench.load URL SUBPROTOCOL FRAMES`.

Prints the seconds from the first frame until the server has handled the last one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, SampledFrame
from sgaps.protocol.messages import ClientInfo, Heartbeat, Resolution, SessionStart

CONNECTIONS = 8
RESOLUTION = Resolution(width=320, height=240)
STATE_VALUES = 16


async def main(url: str, subprotocol: str, frames: int) -> float:
    """Seconds."""
    subprotocols = [Subprotocol(subprotocol)]
    sockets = [
        await connect(url, subprotocols=subprotocols, compression=None) for _ in range(CONNECTIONS)
    ]
    writers = [await _start(socket) for socket in sockets]
    share = frames // CONNECTIONS
    started_at_secs = time.perf_counter()
    await asyncio.gather(
        *(_play(socket, write, share) for socket, write in zip(sockets, writers, strict=True))
    )
    secs = time.perf_counter() - started_at_secs
    for socket in sockets:
        await socket.close()
    return secs


async def _start(socket: ClientConnection) -> Callable[[int], str | bytes]:
    """Begin a session; how its frames are written."""
    start = SessionStart(
        checkpoint_key="bench",
        resolution=RESOLUTION,
        max_state_dim=64,
        client=ClientInfo(name="bench", version="1", features=["footprint"]),
    )
    await socket.send(json_codec.encode(start))
    await socket.recv()
    raw = await socket.recv()
    if isinstance(raw, bytes):
        chosen = binary_codec.decode_server_message(raw)
        return _patched(binary_codec.encode_frame(_frame(chosen)))
    message = json_codec.decode_server_message(raw)
    chosen = json_codec.coordinate_set(message)  # type: ignore[arg-type]
    before, after = json_codec.encode_frame(_frame(chosen)).split('"frame_id":0', 1)
    return lambda frame_id: f'{before}"frame_id":{frame_id}{after}'


def _frame(chosen: CoordinateSet) -> SampledFrame:
    rng = np.random.default_rng(0)
    samples = np.insert(chosen.coords, 2, rng.random(len(chosen.coords), np.float32), axis=1)
    return SampledFrame(
        frame_id=0,
        coordinate_set_id=chosen.coordinate_set_id,
        samples=samples,
        state=rng.random(STATE_VALUES, np.float32),
        resolution=RESOLUTION,
        timestamp=0.0,
    )


def _patched(frame: bytes) -> Callable[[int], bytes]:
    """Only the frame id changes: what is measured is the server."""
    before, after = frame[:4], frame[12:]
    return lambda frame_id: before + frame_id.to_bytes(8, "little") + after


async def _play(socket: ClientConnection, write: Callable[[int], str | bytes], frames: int) -> None:
    for frame_id in range(frames):
        await socket.send(write(frame_id))
    # Messages are handled in order: the answer comes when all frames are in.
    await socket.send(json_codec.encode(Heartbeat(timestamp=0.0)))
    answer = str(await socket.recv())
    if "heartbeat_ack" not in answer:
        raise RuntimeError(f"the server refused a frame: {answer}")


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
