"""A recorder as it is deployed: a process of its own, a real broker, a real disk."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from sgaps.bus import Bus, Publish, RedisBus
from sgaps.messages import FrameAccepted
from sgaps.service import LiveServices, Status, heartbeat_key
from sgaps.settings import Settings

STOP_TIMEOUT_SECS = 20


@asynccontextmanager
async def running_recorder(
    settings: Settings, *overrides: str, under: Sequence[str] = ()
) -> AsyncIterator[RedisBus]:
    """`python -m recorder` until the end of the block; what the broker is spoken to with."""
    async with Redis.from_url(settings.bus.url) as redis:
        await redis.delete(heartbeat_key("recorder", settings.instance))  # of one before
    process = await asyncio.create_subprocess_exec(
        *under,
        sys.executable,
        "-m",
        "recorder",
        f"bus.url={settings.bus.url}",
        f"data.recordings_dir={settings.data.recordings_dir}",
        f"data.checkpoints_dir={settings.data.checkpoints_dir}",
        f"instance={settings.instance}",
        "bus.block_secs=0.2",
        *overrides,
        start_new_session=True,
    )
    bus = RedisBus(settings.bus)
    try:
        yield bus
    finally:
        await bus.close()
        if process.returncode is None:
            os.kill(_child(process.pid) if under else process.pid, signal.SIGTERM)
        async with asyncio.timeout(STOP_TIMEOUT_SECS):
            assert await process.wait() == 0


def _child(pid: int) -> int:
    """The one process that this one has started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


async def publish(bus: Bus, frames: Sequence[FrameAccepted]) -> None:
    await bus.write(*map(Publish, frames))


async def recorder_status(bus: Bus) -> Status:
    """What the heartbeat tells; {} before the first."""
    live = await LiveServices(bus).look()
    return next((beat.status for beat in live if beat.service == "recorder"), {})


async def recorder_starts(bus: Bus) -> bool:
    """Whether its heart beats."""
    return bool(await recorder_status(bus))
