"""The recorder's process on a disk that somebody else fills, and empties again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from integration.conftest import with_changes
from integration.recorder_process import (
    publish,
    recorder_starts,
    recorder_status,
    running_recorder,
)
from recorder_frames import frame, recorded
from sgaps.bus import RedisBus
from sgaps.messages import DeadLetter, FrameAccepted
from sgaps.packing import pack_pixels
from sgaps.recording import SegmentWriter, note_trained, segment_info
from sgaps.settings import Settings
from small_disk import fill, small_disk
from toy_segments import make_frame
from waiting import eventually

FRAMES = 40
SAMPLES = pack_pixels(np.full((1000, 3), 0.5))


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
    # So that a single delivery that is spent on waiting would bury its frame.
    hurry = (
        "recorder.max_deliveries=2",
        "bus.min_idle_secs=0.5",
        f"recorder.min_free_bytes={min_free_bytes}",
    )
    async with Redis.from_url(clean_broker) as redis:
        async with running_recorder(settings, *hurry) as bus:
            await eventually(lambda: recorder_starts(bus), timeout_secs=30)
            ballast = fill(disk, leave_bytes=3 * 2**20)
            for number in range(FRAMES):
                big = [frame(name, number, samples_bytes=SAMPLES) for name in "abcdefgh"]
                await publish(bus, big)
            await eventually(lambda: _waits(bus), timeout_secs=20)
            assert await redis.xlen(FrameAccepted.STREAM) == 8 * FRAMES
            pending = (await redis.xpending(FrameAccepted.STREAM, "recorder"))["pending"]
            assert pending > 0
        async with running_recorder(settings, *hurry) as bus:
            await eventually(lambda: _waits(bus), timeout_secs=30)
        async with running_recorder(settings, *hurry) as bus:
            await eventually(lambda: _waits(bus), timeout_secs=30)
            ballast.unlink()
            await eventually(lambda: _is_read(redis, entries=8 * FRAMES), timeout_secs=30)
            await eventually(lambda: _waits_no_more(bus), timeout_secs=5)
        assert await redis.xlen(DeadLetter.STREAM) == 0
    assert recorded(settings) == {name: list(range(FRAMES)) for name in "abcdefgh"}


async def _waits(bus: RedisBus) -> bool:
    return str((await recorder_status(bus)).get("waiting", "")).startswith("disk full")


async def _waits_no_more(bus: RedisBus) -> bool:
    return (await recorder_status(bus)).get("waiting") == ""


async def _is_read(redis: Redis, *, entries: int) -> bool:
    groups = await redis.xinfo_groups(FrameAccepted.STREAM)
    return any(group["entries-read"] == entries and not group["pending"] for group in groups)


async def test_on_a_full_disk_trained_recordings_make_room(
    settings: Settings, clean_broker: str, disk: Path
) -> None:
    settings = with_changes(
        settings,
        bus={"url": clean_broker},
        data={"recordings_dir": disk / "recordings", "checkpoints_dir": disk / "checkpoints"},
    )
    root = settings.data.recordings_dir
    trained, untrained = (old_segment(root, session) for session in ("trained", "untrained"))
    note_trained("doom", settings.data.checkpoints_dir, [segment_info(trained)], root=root)
    limits = ("recorder.keep_secs=1e9", f"recorder.min_free_bytes={6 * 2**20}")
    async with (
        Redis.from_url(clean_broker) as redis,
        running_recorder(settings, *limits) as bus,
    ):
        await eventually(lambda: recorder_starts(bus), timeout_secs=30)
        await publish(bus, [frame("new", number) for number in range(3)])
        await eventually(lambda: _is_read(redis, entries=3), timeout_secs=30)
    assert not trained.exists()
    assert untrained.exists()
    assert recorded(settings)["new"] == [0, 1, 2]


def old_segment(root: Path, session_id: str) -> Path:
    """Of 5 MB, two hours old."""
    writer = SegmentWriter(
        root / "doom" / session_id / "000000.h5",
        checkpoint_key="doom",
        session_id=session_id,
        max_state_dim=4,
        sentinel=-999.0,
    )
    writer.append([make_frame(0, keyframe_encoding="png", keyframe=bytes(5 * 2**20))])
    path = writer.seal()
    two_hours_ago = time.time() - 7200
    os.utime(path, (two_hours_ago, two_hours_ago))
    return path
