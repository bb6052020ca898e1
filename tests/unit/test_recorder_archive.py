"""The archive: every frame on disk once, whatever is sent again, fails or dies."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from recorder import capacity
from recorder.archive import Archive
from recorder_frames import frame, frames, recorded_ids, with_recorder
from sgaps.errors import DiskFull, MessageError, RecordingError
from sgaps.packing import pack_floats
from sgaps.recording import SegmentReader, find_segments
from sgaps.settings import Settings

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "recorder.archive"])


def recorded_bytes() -> float:
    return REGISTRY.get_sample_value("sgaps_recorded_bytes_total") or 0.0


def segment_names(settings: Settings, session_id: str) -> list[str]:
    folder = settings.data.recordings_dir / "doom" / session_id
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_recorder(settings, segment_frames=10, segment_idle_secs=3.0, min_free_bytes=0)


def test_a_batch_of_many_sessions_is_recorded(settings: Settings) -> None:
    archive = Archive(settings)
    picture = frame("b", 7, keyframe_encoding="png", keyframe=b"picture")
    bytes_before = recorded_bytes()
    report = archive.record([*frames("a", 1, 2), picture, *frames("a", 3)])
    assert (report.recorded, report.failed) == (4, {})
    assert report.newest_frame_ids == {"a": 3, "b": 7}
    assert recorded_bytes() - bytes_before == 4 * (5 * (3 * 4 + 1) + 2 * 4) + len(b"picture")
    sealed = {segment.session_id: segment for segment in archive.seal_all()}
    assert recorded_ids(settings, "a") == [1, 2, 3]
    assert (sealed["b"].checkpoint_key, sealed["b"].frame_count) == ("doom", 1)
    assert sealed["b"].path == "doom/b/000000.h5"
    path = settings.data.recordings_dir / sealed["b"].path
    assert sealed["b"].size_bytes == path.stat().st_size
    with SegmentReader(path) as reader:
        recorded = reader.read(0)
    assert recorded.samples.tolist() == picture.samples.tolist()
    assert recorded.state.tolist() == picture.state.tolist()
    assert (recorded.keyframe_encoding, recorded.keyframe) == ("png", b"picture")
    assert (recorded.coordinate_set_id, recorded.width, recorded.height) == (3, 160, 120)
    assert (recorded.client_time_secs, recorded.received_at_secs) == (0.7, 1e9)


def test_what_comes_again_is_recorded_once(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 1, 2, 2, 5))
    report = archive.record(frames("a", 5, 3, 1, 3, 6))
    assert report.recorded == 2
    assert report.newest_frame_ids == {"a": 6}
    report = archive.record(frames("a", 1, 2, 3))
    assert report.recorded == 0
    assert report.newest_frame_ids == {"a": 6}
    archive.seal_all()
    assert recorded_ids(settings, "a") == [1, 2, 5, 3, 6]


def test_any_order_of_batches_seals_and_restarts_records_each_frame_once(
    settings: Settings,
) -> None:
    rng = random.Random(1)
    archive = Archive(settings)
    sent: set[int] = set()
    for _ in range(25):
        ids = [rng.randrange(60) for _ in range(rng.randrange(1, 12))]
        sent |= set(ids)
        assert archive.record(frames("a", *ids)).newest_frame_ids == {"a": max(sent)}
        archive.seal_idle(time.monotonic() + rng.choice([0, 0, 10]))
        if rng.random() < 0.1:
            archive.seal_all()
            archive.close()
            archive = Archive(settings)
    archive.seal_all()
    assert sorted(recorded_ids(settings, "a")) == sorted(sent)
    assert segment_names(settings, "a") == [f"{n:06d}.h5" for n in range(segments(settings))]


def segments(settings: Settings) -> int:
    return len(find_segments(settings.data.recordings_dir))


def test_full_segments_are_sealed_and_numbers_go_on(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record(frames("a", *range(9)))
    assert archive.seal_idle(time.monotonic()) == []
    archive.record(frames("a", 9))
    (full,) = archive.seal_idle(time.monotonic())
    assert (full.path, full.frame_count) == ("doom/a/000000.h5", 10)
    archive.record(frames("a", 10))
    assert archive.seal_idle(time.monotonic()) == []
    (rest,) = archive.seal_all()
    assert (rest.path, rest.frame_count) == ("doom/a/000001.h5", 1)
    assert archive.seal_all() == []


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sealed segments that are opened from here on."""
    names: list[str] = []
    real = SegmentReader.__init__

    def note(self: SegmentReader, path: Path, **options: Any) -> None:
        names.append(path.name)
        real(self, path, **options)

    monkeypatch.setattr(SegmentReader, "__init__", note)
    return names


def test_a_long_session_costs_no_more_than_a_short_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(settings)
    for first in range(0, 200, 10):
        archive.record(frames("a", *(i for i in range(first, first + 10) if i != 55)))
        archive.seal_all()
    archive.close()
    archive = Archive(settings)
    names = opened(monkeypatch)
    # After a restart the newest segment tells what the older ones have.
    assert archive.record(frames("a", 199, 200)).recorded == 1
    assert names == ["000019.h5", "000019.h5"]
    # What was never recorded is looked for everywhere, once.
    assert archive.record(frames("a", 55)).recorded == 1
    assert len(names) == 2 + 19
    names.clear()
    assert archive.record(frames("a", 15, 55, 199, 56)).recorded == 0
    assert sorted(set(names)) == ["000001.h5", "000005.h5", "000019.h5"]


def test_ids_of_a_late_segment_do_not_hide_those_before(settings: Settings) -> None:
    for ids in ([1, 2, 9], [5], [3]):
        archive = Archive(settings)
        archive.record(frames("a", *ids))
        archive.seal_all()
        archive.close()
    archive = Archive(settings)
    report = archive.record(frames("a", 9, 8, 4))
    assert (report.recorded, report.newest_frame_ids) == (2, {"a": 9})


def test_thousands_of_sessions_leave_nothing_in_memory(settings: Settings) -> None:
    archive = Archive(settings)
    for number in range(100):
        archive.record(frames(f"s-{number}", 1))
    assert archive.open_segments == 100
    archive.seal_idle(time.monotonic() + 31)
    assert archive.open_segments == 0
    assert archive._sessions == {}


def test_no_more_segments_are_open_than_files_may_be(settings: Settings) -> None:
    archive = Archive(settings)
    archive._max_open_segments = 3
    for round_ in range(2):
        for name in "abcde":
            assert archive.record(frames(name, round_)).recorded == 1
            assert archive.open_segments <= 3
    archive.seal_all()
    assert [recorded_ids(settings, name) for name in "abcde"] == [[0, 1]] * 5


@pytest.mark.parametrize(("limit", "most"), [("311000000\n", 100), ("1", 1), ("max\n", 300)])
def test_no_more_segments_are_open_than_the_container_has_memory_for(
    limit: str,
    most: int,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(capacity, "_CONTAINER_LIMIT", tmp_path / "memory.max")
    found = Archive(settings)._max_open_segments
    assert found >= most if limit == "max\n" else found == most


@pytest.mark.parametrize(("frame_count", "secs"), [(1, 30), (5, 6), (9, 3.4), (10, 3), (600, 3)])
def test_silent_sessions_are_sealed(settings: Settings, frame_count: int, secs: float) -> None:
    """One that has only a few frames may be a slow one, and is waited for longer."""
    archive = Archive(with_recorder(settings, segment_frames=1000))
    archive.record(frames("a", *range(frame_count)))
    assert archive.seal_idle(time.monotonic() + secs - 0.5) == []
    (sealed,) = archive.seal_idle(time.monotonic() + secs)
    assert sealed.frame_count == frame_count
    report = archive.record(frames("a", 0, frame_count))
    assert report.recorded == 1
    assert segment_names(settings, "a") == ["000000.h5", "000001.h5.part"]


def test_what_takes_long_is_done_before_a_frame_is_written(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 1, 2))
    (part,) = (settings.data.recordings_dir / "doom" / "a").glob("*.part")
    left = part.read_bytes()
    archive.seal_all()
    archive.close()
    for path in part.parent.iterdir():
        path.unlink()
    part.write_bytes(left)  # as a recorder that was killed leaves it
    archive = Archive(settings)
    archive.make_ready(frame("a", 2))
    assert recorded_ids(settings, "a") == [1, 2]
    archive.seal_idle(time.monotonic())
    report = archive.record(frames("a", 2, 3))
    assert report.recorded == 1


def test_bad_frames_fail_alone(settings: Settings) -> None:
    archive = Archive(settings)
    odd = frame("a", 2, samples_bytes=b"1234")
    long = frame("a", 3, state_bytes=pack_floats(np.zeros(65)))
    nan = frame("a", 4, state_bytes=pack_floats(np.full(2, np.nan)))
    path = frame("../a", 5)
    report = archive.record([*frames("a", 1), odd, long, nan, path, *frames("a", 6)])
    assert report.recorded == 2
    assert list(report.failed) == [("a", 2), ("a", 3), ("a", 4), ("../a", 5)]
    assert isinstance(report.failed["a", 2], MessageError)
    assert isinstance(report.failed["a", 3], RecordingError)
    archive.seal_all()
    assert recorded_ids(settings, "a") == [1, 6]


def test_a_session_that_cannot_be_written_does_not_stop_the_others(settings: Settings) -> None:
    archive = Archive(settings)
    (settings.data.recordings_dir / "doom").mkdir()
    (settings.data.recordings_dir / "doom" / "bad").write_text("not a folder")
    report = archive.record([*frames("bad", 1, 2), *frames("good", 1)])
    assert list(report.failed) == [("bad", 1), ("bad", 2)]
    assert (report.recorded, report.newest_frame_ids) == (1, {"good": 1})


def test_a_segment_that_fails_is_recovered_and_its_session_goes_on(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record([*frames("bad", 1, 2), *frames("good", 1)])
    break_disk(archive, "bad")
    report = archive.record([*frames("bad", 2, 3), *frames("good", 2)])
    assert list(report.failed) == [("bad", 2), ("bad", 3)]
    assert report.newest_frame_ids == {"good": 2}
    (recovered,) = archive.recover()
    assert (recovered.path, recovered.frame_count) == ("doom/bad/000000.h5", 2)
    report = archive.record([*frames("bad", 2, 3), *frames("good", 2, 3)])
    assert (report.failed, report.newest_frame_ids) == ({}, {"bad": 3, "good": 3})
    archive.seal_all()
    assert recorded_ids(settings, "bad") == [1, 2, 3]
    assert recorded_ids(settings, "good") == [1, 2, 3]


def test_a_segment_that_cannot_be_sealed_is_recovered_with_its_session(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record([*frames("bad", 1, 2), *frames("good", 1)])
    break_disk(archive, "bad")
    (sealed,) = archive.seal_all()
    assert sealed.session_id == "good"
    assert archive.record([*frames("bad", 2, 3), *frames("good", 2)]).failed == {}
    archive.seal_all()
    assert recorded_ids(settings, "bad") == [1, 2, 3]


def test_a_segment_that_cannot_be_closed_is_recovered_too(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record(frames("bad", 1, 2))
    writer = archive._sessions["doom", "bad"]._writer
    assert writer is not None
    writer._file = BreaksWhenClosed(writer._file)
    assert archive.seal_all() == []
    (recovered,) = archive.recover()
    assert (recovered.session_id, recovered.frame_count) == ("bad", 2)
    assert not archive.has_unrecovered


class BreaksWhenClosed:
    """An HDF5 file whose disk fails in the last moment."""

    def __init__(self, file: Any) -> None:
        self.file, self.id = file, file.id

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        raise OSError("Input/output error")


def break_disk(archive: Archive, session_id: str) -> None:
    """Every write to the session's open segment fails from here on."""
    writer = archive._sessions["doom", session_id]._writer
    assert writer is not None
    unwritable = os.open(os.devnull, os.O_RDONLY)
    os.dup2(unwritable, writer._file.id.get_vfd_handle())
    os.close(unwritable)


def test_a_full_disk_writes_nothing_and_what_is_open_can_be_sealed(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 1))
    archive.close()
    full = Archive(with_recorder(settings, min_free_bytes=2**60))
    with pytest.raises(DiskFull):
        full.record(frames("a", 2))
    assert segment_names(settings, "a") == ["000000.h5.part"]
    (sealed,) = archive.seal_all()
    assert sealed.frame_count == 1


def test_a_folder_has_one_recorder(settings: Settings) -> None:
    archive = Archive(settings)
    with pytest.raises(RecordingError, match="another recorder"):
        Archive(settings)
    archive.close()
    Archive(settings).close()


def test_a_bad_sealed_segment_does_not_stop_its_session(settings: Settings) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 1))
    (sealed,) = archive.seal_all()
    (settings.data.recordings_dir / sealed.path).write_bytes(b"nonsense")
    assert archive.record(frames("a", 1, 2)).recorded == 2
    assert segment_names(settings, "a") == ["000000.h5", "000001.h5.part"]


def record_until_killed(settings: Settings, acknowledge: Connection, start: int) -> None:
    archive = Archive(settings)
    archive.recover()
    for first in range(start, 10**6, 3):
        archive.record([f for s in "abc" for f in frames(s, *range(first, first + 3))])
        acknowledge.send(first + 3)
        archive.seal_idle(time.monotonic())


def test_kill_9_loses_nothing_and_redelivery_doubles_nothing(settings: Settings) -> None:
    end = 0
    for run in range(5):
        receiver, sender = PROCESSES.Pipe(duplex=False)
        # What was in hand when the last one died comes again.
        arguments = (settings, sender, max(0, end - 5))
        process = PROCESSES.Process(target=record_until_killed, args=arguments)
        process.start()
        end = receiver.recv()
        time.sleep(0.02 * run)
        process.kill()
        process.join()
        while receiver.poll():
            end = receiver.recv()
    archive = Archive(settings)
    recovered = []
    while archive.has_unrecovered:
        recovered += archive.recover()
    assert {segment.session_id for segment in recovered} <= set("abc")
    for session_id in "abc":
        ids = recorded_ids(settings, session_id)
        assert sorted(ids) == list(range(len(ids)))
        assert len(ids) >= end


def misplace(settings: Settings, name: str) -> None:
    """A sealed segment of session `other`, in the folder of `a` under this name."""
    source = Archive(settings)
    source.record(frames("other", *range(5)))
    source.seal_all()
    source.close()
    folder = settings.data.recordings_dir / "doom" / "a"
    folder.mkdir()
    (settings.data.recordings_dir / "doom" / "other" / "000000.h5").rename(folder / name)


@pytest.mark.parametrize("name", ["000000.h5", "backup.h5"])
def test_another_sessions_frames_are_not_taken_for_its_own(settings: Settings, name: str) -> None:
    """They would be acknowledged as recorded, and never written."""
    misplace(settings, name)
    archive = Archive(settings)
    report = archive.record(frames("a", *range(5)))
    assert report.recorded == 5
    assert report.newest_frame_ids == {"a": 4}
    report = archive.record(frames("a", *range(3, 7)))
    assert report.recorded == 2


def unlistable(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    iterdir = Path.iterdir

    def listed(path: Path) -> Iterator[Path]:
        if path == folder:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", listed)


def test_a_folder_that_cannot_be_listed_costs_its_own_session_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 0))
    archive.seal_all()
    archive.close()
    unlistable(monkeypatch, settings.data.recordings_dir / "doom" / "a")
    archive = Archive(settings)
    assert "doom/a cannot be listed" in caplog.text
    archive.make_ready(frame("a", 1))
    report = archive.record([*frames("a", 1), *frames("b", 1)])
    assert report.recorded == 1
    assert report.failed.keys() == {("a", 1)}
    monkeypatch.undo()
    assert archive.record(frames("a", 0, 1)).recorded == 1
    archive.seal_all()
    assert recorded_ids(settings, "a") == [0, 1]


def test_a_clock_that_is_set_back_keeps_no_silent_session_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(settings)
    archive.record(frames("a", 1))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert len(archive.seal_idle(time.monotonic() + 31)) == 1
