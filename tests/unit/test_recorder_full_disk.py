"""A disk that is full, or fails: nothing that was reported is lost, and it goes on by itself."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recorder.archive import Archive
from recorder_frames import frame, recorded_ids, with_recorder
from sgaps.errors import DiskFull, StorageFails
from sgaps.messages import FrameAccepted
from sgaps.packing import pack_pixels
from sgaps.recording import RecordedFrame, recover_parts
from sgaps.recording.writer import growth_bytes
from sgaps.sampling.footprints import as_points
from sgaps.settings import Settings
from small_disk import fill, grow, set_read_only, small_disk
from toy_segments import open_writer

MB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_bytes=8 * MB) as mounted:
        yield mounted


@pytest.fixture
def settings(settings: Settings, disk: Path) -> Settings:
    data = settings.data.model_copy(update={"recordings_dir": disk / "recordings"})
    return with_recorder(settings.model_copy(update={"data": data}), min_free_bytes=0)


def frames(session_id: str, *frame_ids: int) -> list[FrameAccepted]:
    """Of 6.5 kB each."""
    samples = pack_pixels(np.full((500, 3), 0.5))
    return [frame(session_id, number, samples_bytes=samples) for number in frame_ids]


def record_until_full(archive: Archive, session_ids: str) -> int:
    """How many frames of each session were recorded before the disk was full."""
    for frame_id in range(10**6):
        try:
            archive.record([f for session_id in session_ids for f in frames(session_id, frame_id)])
        except DiskFull:
            return frame_id
    raise AssertionError("no full disk")


@pytest.mark.parametrize("left_bytes", [0, 4096, 100_000, 400_000, 1_000_000])
def test_recording_goes_on_when_there_is_space_again(
    settings: Settings, disk: Path, left_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(settings)
    archive.record([*frames("a", 0), *frames("b", 0)])
    # Somebody else takes the space after it was looked at.
    monkeypatch.setattr(Archive, "ensure_space", lambda *_: None)
    ballast = fill(disk, leave_bytes=left_bytes)
    end = record_until_full(archive, "abc")
    for _ in range(3):
        with pytest.raises(DiskFull):
            archive.record([f for s in "abc" for f in frames(s, *range(max(end, 1), end + 99))])
    archive.seal_all()
    ballast.unlink()
    report = archive.record([f for s in "abc" for f in frames(s, *range(end + 2))])
    assert report.failed == {}
    archive.seal_all()
    while archive.has_unrecovered:
        archive.recover()
    for session_id in "abc":
        assert recorded_ids(settings, session_id) == list(range(end + 2))
    assert [path.name for path in disk.rglob("*.bad*")] == []
    assert [path.name for path in disk.rglob("*.part")] == []


def test_a_full_disk_loses_nothing_over_a_restart(settings: Settings, disk: Path) -> None:
    archive = Archive(settings)
    end = record_until_full(archive, "ab")
    archive.close()  # and nothing is sealed, as if it were killed
    for session in archive._sessions.values():
        session.abandon()
    fill(disk, leave_bytes=0)
    archive = Archive(settings)
    with pytest.raises(DiskFull):
        archive.record(frames("a", end))
    assert recover_parts(settings.data.recordings_dir)[0].info is None
    grow(disk, size_bytes=64 * MB)
    while archive.has_unrecovered:
        archive.recover()
    for session_id in "ab":
        assert recorded_ids(settings, session_id)[:end] == list(range(end))


def test_a_disk_that_takes_no_writes_is_waited_for(settings: Settings, disk: Path) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 0))
    archive.seal_all()
    os.close(archive._lock)
    set_read_only(disk, read_only=True)
    batch = [*frames("a", 1), *frames("b", 0)]
    for _ in range(2):
        with pytest.raises(StorageFails, match="Read-only file system"):
            archive.record(batch)
    set_read_only(disk, read_only=False)
    report = archive.record(batch)
    assert (report.failed, report.recorded) == ({}, 2)
    archive.seal_all()
    assert (recorded_ids(settings, "a"), recorded_ids(settings, "b")) == ([0, 1], [0])


def test_a_disk_that_is_gone_is_waited_for(settings: Settings, disk: Path) -> None:
    archive = Archive(settings)
    folder = settings.data.recordings_dir
    away = folder.rename(disk / "away")
    with pytest.raises(StorageFails, match="No such file"):
        archive.record(frames("a", 0))
    away.rename(folder)
    assert archive.record(frames("a", 0)).failed == {}


def test_no_batch_takes_more_than_was_estimated(tmp_path: Path) -> None:
    rng = random.Random(3)
    for trial in range(15):
        width = rng.choice([1, 64, 500])
        writer = open_writer(tmp_path, session_id=f"s-{trial}", max_state_dim=width)
        size_bytes = 0
        for _ in range(8):
            batch = [random_frame(rng, width) for _ in range(rng.choice([1, 3, 80, 300]))]
            writer.append(batch)
            writer.sync()
            expected = growth_bytes(
                samples=sum(len(f.samples) for f in batch),
                keyframe_bytes=sum(len(f.keyframe) for f in batch),
                frames=len(batch),
                segments=1,
                max_state_dim=width,
            )
            assert writer.size_bytes - size_bytes <= expected
            size_bytes = writer.size_bytes
        writer.abandon()


def random_frame(rng: random.Random, max_state_dim: int) -> RecordedFrame:
    picture = bytes(rng.choice([0, 0, 500, 90_000]))
    return RecordedFrame(
        frame_id=time.monotonic_ns(),
        coordinate_set_id=0,
        width=9,
        height=9,
        samples=as_points(np.zeros((rng.choice([0, 5, 500]), 3), np.float32)),
        state=np.zeros(rng.randrange(max_state_dim + 1), np.float32),
        client_time_secs=0.0,
        received_at_secs=0.0,
        keyframe_encoding="png" if picture else "",
        keyframe=picture,
    )
