"""Frames as fast as a server takes them: `python -m sgaps_cli.bench.load URL SUBPROTOCOL FRAMES`.

Prints the seconds from the first frame until the server has handled the last one.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Callable

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, SampledFrame
from sgaps.protocol.messages import ClientInfo, Heartbeat, Resolution, SessionStart, SessionStartAck

BINARY = binary_codec.SUBPROTOCOL
IDS = struct.Struct("<QQ")
"""Of a frame and its set, in the binary form; a set that answers a frame begins with them too."""
IDS_AT = 4
CONNECTIONS = 8
RESOLUTION = Resolution(width=320, height=240)
STATE_VALUES = 16


async def main(url: str, subprotocol: str, frames: int) -> float:
    """Seconds."""
    subprotocols = [Subprotocol(subprotocol)]
    sockets = [
        await connect(url, subprotocols=subprotocols, compression=None) for _ in range(CONNECTIONS)
    ]
    writers = [_writer(await begin(socket), is_binary=subprotocol == BINARY) for socket in sockets]
    share = frames // CONNECTIONS
    started_at_secs = time.perf_counter()
    await asyncio.gather(
        *(_play(socket, write, share) for socket, write in zip(sockets, writers, strict=True))
    )
    secs = time.perf_counter() - started_at_secs
    for socket in sockets:
        await socket.close()
    return secs


async def begin(socket: ClientConnection) -> CoordinateSet:
    """Begin a session; the set that it starts with."""
    _, chosen = await start(socket)
    return chosen


async def start(socket: ClientConnection) -> tuple[SessionStartAck, CoordinateSet]:
    """Begin a session; what it is told, and the set that it starts with."""
    wish = SessionStart(
        checkpoint_key="bench",
        resolution=RESOLUTION,
        max_state_dim=64,
        client=ClientInfo(name="bench", version="1", features=["footprint"]),
    )
    await socket.send(json_codec.encode(wish))
    ack = json_codec.decode_server_message(await socket.recv())
    if not isinstance(ack, SessionStartAck):
        raise TypeError(f"the server refused a session: {ack}")
    raw = await socket.recv()
    if isinstance(raw, bytes):
        return ack, binary_codec.decode_server_message(raw)
    message = json_codec.decode_server_message(raw)
    return ack, json_codec.coordinate_set(message)  # type: ignore[arg-type]


def first_frame(chosen: CoordinateSet) -> SampledFrame:
    """Noise at the coordinates of a set."""
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


def _writer(chosen: CoordinateSet, *, is_binary: bool) -> Callable[[int], str | bytes]:
    """How frames are written. Only their ids change: what is measured is the server."""
    frame = first_frame(chosen)
    if is_binary:
        head, tail = split_frame(frame)
        set_id = chosen.coordinate_set_id
        return lambda frame_id: head + IDS.pack(frame_id, set_id) + tail
    before, after = json_codec.encode_frame(frame).split('"frame_id":0', 1)
    return lambda frame_id: f'{before}"frame_id":{frame_id}{after}'


def split_frame(frame: SampledFrame) -> tuple[bytes, bytes]:
    """What stands before and behind the ids of a frame in binary."""
    raw = binary_codec.encode_frame(frame)
    return raw[:IDS_AT], raw[IDS_AT + IDS.size :]


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
