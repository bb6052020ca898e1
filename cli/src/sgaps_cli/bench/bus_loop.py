"""Frames through a broker: `python -m sgaps_cli.bench.bus_loop REDIS_URL ours|floor FRAMES`.

Prints what writing took, and what reading and acknowledging took. Both sides have as many writes on
their way at once, and read batches of the same size.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from redis.asyncio.connection import AbstractConnection

from sgaps.bus import Consumer, Delivery, Outcome, Publish, RedisBus
from sgaps.bus.connection import connect
from sgaps.bus.redis_commands import FIELD, Command
from sgaps.bus.redis_trips import TRIPS_AT_ONCE, WRITES_TOGETHER
from sgaps.messages import FrameAccepted
from sgaps.settings import BusSettings, load_settings
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.processes import Meter
from sgaps_cli.bench.report import Run

GROUP, NAME, STREAM = "bench", "bench-1", FrameAccepted.STREAM


async def ours(frames: Sequence[FrameAccepted], settings: BusSettings) -> list[Run]:
    """`RedisBus` and `Consumer`, as the services use them."""
    bus, stop = RedisBus(settings), asyncio.Event()
    waiting = iter(frames)

    async def write() -> None:
        for frame in waiting:
            await bus.write(Publish(frame))

    with Meter(len(frames)) as writing:
        await asyncio.gather(*(write() for _ in range(WRITES_TOGETHER)))
    done = 0

    async def handle(batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        nonlocal done
        done += len(batch)
        if done >= len(frames):
            stop.set()
        return Outcome()

    consumer = Consumer(
        bus, FrameAccepted, group=GROUP, name=NAME, settings=settings, handle=handle
    )
    with Meter(len(frames)) as reading:
        await consumer.run(stop)
    await bus.close()
    return [writing.run, reading.run]


async def floor(frames: Sequence[bytes], settings: BusSettings) -> list[Run]:
    """redis-py's connections alone, with the bytes at hand."""
    redis = connect(settings, socket_timeout_secs=None)
    pool: Any = redis.connection_pool
    together = WRITES_TOGETHER // TRIPS_AT_ONCE
    starts = iter(range(0, len(frames), together))

    async def write(line: AbstractConnection) -> None:
        for start in starts:
            batch = frames[start : start + together]
            await _replies(line, [("XADD", STREAM, "*", FIELD, data) for data in batch])

    with Meter(len(frames)) as writing:
        lines = [await pool.get_connection() for _ in range(TRIPS_AT_ONCE)]
        await asyncio.gather(*map(write, lines))
    await redis.xgroup_create(STREAM, GROUP, id="0")
    line, count, left = lines[0], settings.batch_size, len(frames)
    read = ("XREADGROUP", "GROUP", GROUP, NAME, "COUNT", count, "STREAMS", STREAM, ">")
    acknowledged: list[Command] = []  # of the batch before: it goes with the next read
    with Meter(len(frames)) as reading:
        while left:
            *_, ((_, rows),) = await _replies(line, [*acknowledged, read])
            acknowledged = [("XACK", STREAM, GROUP, *(entry_id for entry_id, _ in rows))]
            left -= len(rows)
        await _replies(line, acknowledged)
    await redis.aclose()
    return [writing.run, reading.run]


async def _replies(line: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """To each, in one trip."""
    await line.send_packed_command(line.pack_commands(commands))
    return [await line.read_response() for _ in commands]


def main(url: str, side: str, count: int) -> list[Run]:
    settings = load_settings([f"bus.url={url}"], environment={}).bus
    frames = accepted_frames(count)
    if side == "ours":
        return asyncio.run(ours(frames, settings))
    return asyncio.run(floor([frame.encode() for frame in frames], settings))


if __name__ == "__main__":
    print(json.dumps([asdict(run) for run in main(sys.argv[1], sys.argv[2], int(sys.argv[3]))]))
