"""The recorder's process on a disk that somebody else fills, and empties again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from integration.conftest import eventually, with_changes
from integration.recorder_process import (
    frame,
    publish,
    recorded,
    recorder_starts,
    recorder_status,
    running_recorder,
)
from sgaps.bus import RedisBus
from sgaps.messages import DeadLetter, FrameAccepted
from sgaps.settings import Settings
from small_disk import fill, small_disk

FRAMES = 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_bytes=16 * 2**20) as mounted:
        yield mounted


@pytest.mark.parametrize("min_free_bytes", [0, 2**20])
async def test_a_full_disk_is_waited_for_and_nothing_is_acknowledged(
    settings: Settings, clean_broker: str, disk: Path, min_free_bytes: int
) -> None:
    settings = with_changes(
        settings, bus={"url": clean_broker}, data={"recordings_dir": disk / "recordings"}
    )
    hurry = ("bus.min_idle_secs=0.5", f"recorder.min_free_bytes={min_free_bytes}")
    async with Redis.from_url(clean_broker) as redis:
        async with running_recorder(settings, *hurry) as bus:
            await eventually(lambda: recorder_starts(bus), timeout_secs=30)
            ballast = fill(disk, leave_bytes=3 * 2**20)
            for number in range(FRAMES):
                big = [frame(name, number, samples=1000) for name in "abcdefgh"]
                await publish(bus, big)
            await eventually(lambda: _waits(bus), timeout_secs=20)
            assert await redis.xlen(FrameAccepted.STREAM) == 8 * FRAMES
            pending = (await redis.xpending(FrameAccepted.STREAM, "recorder"))["pending"]
            assert pending > 0
        # Restarts are no reason to give a frame up, however many there are.
        for _ in range(3):
            async with running_recorder(settings, *hurry) as bus:
                await eventually(lambda: _waits(bus), timeout_secs=30)
        async with running_recorder(settings, *hurry) as bus:
            await eventually(lambda: _waits(bus), timeout_secs=30)
            ballast.unlink()
            await eventually(lambda: _is_done(redis), timeout_secs=30)
            await eventually(lambda: _waits_no_more(bus), timeout_secs=5)
        assert await redis.xlen(DeadLetter.STREAM) == 0
    assert recorded(settings) == {name: list(range(FRAMES)) for name in "abcdefgh"}


async def _waits(bus: RedisBus) -> bool:
    return str((await recorder_status(bus)).get("waiting", "")).startswith("disk full")


async def _waits_no_more(bus: RedisBus) -> bool:
    return (await recorder_status(bus)).get("waiting") == ""


async def _is_done(redis: Redis) -> bool:
    group = next(g for g in await redis.xinfo_groups(FrameAccepted.STREAM))
    return group["entries-read"] == 8 * FRAMES and group["pending"] == 0
