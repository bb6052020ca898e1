"""Frames through a broker: `python -m sgaps_cli.bench.bus_loop REDIS_URL ours|floor FRAMES`.

Prints what writing took, and what reading and acknowledging took. Whoever writes keeps as many
writes on their way as the bus sends together; both sides read batches of the same size.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from redis.asyncio import Redis

from sgaps.bus import Consumer, Delivery, Outcome, Publish, RedisBus
from sgaps.bus.redis_commands import FIELD
from sgaps.bus.redis_trips import WRITES_TOGETHER
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
    """redis-py alone, with the bytes at hand."""
    redis = Redis.from_url(settings.url)
    with Meter(len(frames)) as writing:
        for start in range(0, len(frames), WRITES_TOGETHER):
            pipe = redis.pipeline(transaction=False)
            for data in frames[start : start + WRITES_TOGETHER]:
                pipe.xadd(STREAM, {FIELD: data})
            await pipe.execute()
    await redis.xgroup_create(STREAM, GROUP, id="0")
    left = len(frames)
    with Meter(len(frames)) as reading:
        while left:
            reply: Any = await redis.xreadgroup(
                GROUP, NAME, {STREAM: ">"}, count=settings.batch_size
            )
            ((_, rows),) = reply
            await redis.xack(STREAM, GROUP, *(entry_id for entry_id, _ in rows))
            left -= len(rows)
    await redis.aclose()
    return [writing.run, reading.run]


def main(url: str, side: str, count: int) -> list[Run]:
    settings = load_settings([f"bus.url={url}"], environment={}).bus
    frames = accepted_frames(count)
    if side == "ours":
        return asyncio.run(ours(frames, settings))
    return asyncio.run(floor([frame.encode() for frame in frames], settings))


if __name__ == "__main__":
    print(json.dumps([asdict(run) for run in main(sys.argv[1], sys.argv[2], int(sys.argv[3]))]))
