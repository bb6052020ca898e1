"""The threads that wait for the disk: one that fails, is late or cannot be had loses no frame."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from recorder.archive import Archive
from recorder_frames import frames, recorded_ids, with_recorder
from sgaps.errors import DiskFull, RecordingError
from sgaps.messages import FrameAccepted
from sgaps.recording import SegmentReader, recover_parts
from sgaps.settings import Settings
from waiting import wait_until

TIMEOUT_SECS = 20.0
SOON_SECS = 0.2
"""What is not to happen has this long to happen in."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_recorder(settings, segment_frames=10, segment_idle_secs=3.0, min_free_bytes=0)


@pytest.fixture
def archive(settings: Settings) -> Iterator[Archive]:
    archive = Archive(settings)
    yield archive
    archive.seal_all()
    archive.close()


class Disk:
    """What every fsync of a file goes through from here on; those of folders go their way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[tuple[str, int]] = []
        """(name of its session, inode) of each file that was synced without a failure."""
        self.threads: Counter[bool] = Counter()
        """How many were waited for in the pool, how many elsewhere."""
        self.before: Callable[[str], None] = lambda _: None
        """Called with the session's name by the thread that waits."""
        self._real = os.fsync
        monkeypatch.setattr("sgaps.recording.writer.os.fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            session_id = Path(f"/proc/self/fd/{descriptor}").readlink().parent.name
            self.threads[is_of_the_pool()] += 1
            self.before(session_id)
            assert os.path.samestat(os.fstat(descriptor), status)  # and not closed meanwhile
            self._real(descriptor)
            self.synced.append((session_id, status.st_ino))
        else:
            self._real(descriptor)

    def fail(self, session_id: str, number: int) -> None:
        """Every sync of the session's files fails from here on."""

        def fail(synced_id: str) -> None:
            if synced_id == session_id:
                raise OSError(number, os.strerror(number))

        self.before = fail

    def mend(self) -> None:
        self.before = lambda _: None


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def is_of_the_pool() -> bool:
    return threading.current_thread().name.startswith("fsync")


def seal_and_recover(archive: Archive) -> None:
    archive.seal_all()
    while archive.has_unrecovered:
        archive.recover()


def left_over(settings: Settings) -> list[str]:
    """Files below the folder that are no sealed segments."""
    files = (path for path in settings.data.recordings_dir.rglob("*") if path.is_file())
    return [path.name for path in files if path.suffix not in (".h5", ".lock")]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def all_is_recorded_once_when_it_comes_again(
    settings: Settings, archive: Archive, batch: list[FrameAccepted], earlier: Sequence[int]
) -> None:
    """`batch`: frames 3 and 4 of the sessions `bad` and `good`, which had the earlier ones."""
    report = archive.record([*batch, *frames("bad", 5)])
    assert (report.failed, report.newest_frame_ids) == ({}, {"good": 4, "bad": 5})
    seal_and_recover(archive)
    assert recorded_ids(settings, "bad") == [*earlier, 3, 4, 5]
    assert recorded_ids(settings, "good") == [*earlier, 3, 4]
    assert left_over(settings) == []


@pytest.mark.parametrize("names", [("bad", "good"), ("good", "bad")])
@pytest.mark.parametrize("earlier", [(), (1, 2)])
def test_a_sync_that_fails_fails_its_session_alone(
    settings: Settings, archive: Archive, disk: Disk, names: Sequence[str], earlier: Sequence[int]
) -> None:
    archive.record([f for name in names for f in frames(name, *earlier)])
    disk.threads.clear()
    disk.fail("bad", errno.EIO)
    batch = [f for name in names for f in frames(name, 3, 4)]
    report = archive.record(batch)
    # And one in this thread, to see whether anything can be written at all.
    assert disk.threads == {True: 2, False: 1}
    assert list(report.failed) == [("bad", 3), ("bad", 4)]
    assert {type(error) for error in report.failed.values()} == {RecordingError}
    assert (report.recorded, report.newest_frame_ids) == (2, {"good": 4})
    disk.mend()
    all_is_recorded_once_when_it_comes_again(settings, archive, batch, earlier)


def test_a_disk_that_stays_broken_fails_the_session_each_time_and_nothing_else(
    settings: Settings, archive: Archive, disk: Disk
) -> None:
    before = open_files()
    disk.fail("bad", errno.EIO)
    for number in range(5):
        report = archive.record([*frames("bad", 1, 2), *frames("good", number)])
        assert list(report.failed) == [("bad", 1), ("bad", 2)]
        assert report.newest_frame_ids == {"good": number}
    disk.mend()
    assert archive.record(frames("bad", 1, 2)).failed == {}
    seal_and_recover(archive)
    assert recorded_ids(settings, "bad") == [1, 2]
    assert recorded_ids(settings, "good") == [0, 1, 2, 3, 4]
    assert open_files() == before


@pytest.mark.parametrize("names", [("bad", "good"), ("good", "bad")])
@pytest.mark.parametrize("earlier", [(), (1, 2)])
@pytest.mark.parametrize("max_open_segments", [1, 100])
def test_a_sync_for_which_there_is_no_space_loses_and_doubles_nothing(
    settings: Settings,
    archive: Archive,
    disk: Disk,
    names: Sequence[str],
    earlier: Sequence[int],
    max_open_segments: int,
) -> None:
    archive._max_open_segments = max_open_segments
    archive.record([f for name in names for f in frames(name, *earlier)])
    batch = [f for name in names for f in frames(name, 3, 4)]
    disk.threads.clear()
    disk.fail("bad", errno.ENOSPC)
    for _ in range(2):
        with pytest.raises(DiskFull):
            archive.record(batch)
    assert disk.threads[True] >= 1
    archive.seal_all()
    disk.mend()
    all_is_recorded_once_when_it_comes_again(settings, archive, batch, earlier)


@pytest.mark.parametrize("sync_secs", [0.0, 0.1])
def test_a_segment_that_makes_room_in_its_own_batch_is_on_disk_first(
    settings: Settings, archive: Archive, disk: Disk, sync_secs: float
) -> None:
    archive._max_open_segments = 1
    before = open_files()

    def take_long(_: str) -> None:
        if is_of_the_pool():  # and sealing does not: it would overtake, if it could
            threading.Event().wait(sync_secs)

    disk.before = take_long
    for first in (0, 2):
        batch = [f for name in "xyz" for f in frames(name, first, first + 1)]
        report = archive.record(batch)
        assert (report.recorded, report.failed) == (6, {})
        assert report.newest_frame_ids == dict.fromkeys("xyz", first + 1)
        assert archive.open_segments == 1
        assert archive.record(batch).recorded == 0
    seal_and_recover(archive)
    assert disk.threads[True] == 6
    for name in "xyz":
        assert recorded_ids(settings, name) == [0, 1, 2, 3]
    assert left_over(settings) == []
    assert open_files() == before


def test_a_segment_that_fails_while_it_makes_room_fails_alone(
    settings: Settings, archive: Archive, disk: Disk
) -> None:
    archive._max_open_segments = 1
    before = open_files()
    disk.fail("x", errno.EIO)
    batch = [f for name in "xyz" for f in frames(name, 1, 2)]
    report = archive.record(batch)
    assert list(report.failed) == [("x", 1), ("x", 2)]
    assert report.newest_frame_ids == {"y": 2, "z": 2}
    disk.mend()
    report = archive.record(batch)
    assert (report.failed, report.newest_frame_ids) == ({}, dict.fromkeys("xyz", 2))
    seal_and_recover(archive)
    for name in "xyz":
        assert recorded_ids(settings, name) == [1, 2]
    assert left_over(settings) == []
    assert open_files() == before


def no_thread_for(archive: Archive, monkeypatch: pytest.MonkeyPatch, *, is_queued: bool) -> None:
    """The next sync finds no thread. (The pool has put it into its queue when it notices.)"""
    owner, name = (threading.Thread, "start") if is_queued else (archive._syncs, "submit")
    real: Callable[..., Any] = getattr(owner, name)
    refused: list[bool] = []

    def refuse_once(*arguments: Any) -> Any:
        if refused:
            return real(*arguments)
        refused.append(True)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(owner, name, refuse_once)


@pytest.mark.parametrize("is_queued", [False, True])
@pytest.mark.parametrize("earlier", [(), (1, 2, 5)])
def test_a_sync_without_a_thread_is_done_before_its_frames_are_reported(
    settings: Settings,
    archive: Archive,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    earlier: Sequence[int],
    is_queued: bool,
) -> None:
    archive.record(frames("a", *earlier))
    if is_queued and earlier:  # a pool without an idle thread, as it is under load
        monkeypatch.setattr(archive, "_syncs", ThreadPoolExecutor(8, thread_name_prefix="fsync"))
        archive._sessions["doom", "a"]._syncs = archive._syncs
    no_thread_for(archive, monkeypatch, is_queued=is_queued)
    report = archive.record([*frames("a", 3, 6), *frames("b", 1)])
    assert list(report.failed) == [("a", 3), ("a", 6)]
    assert (report.recorded, report.newest_frame_ids) == (1, {"b": 1})
    disk.synced.clear()
    report = archive.record(frames("a", 3, 6))
    assert (report.failed, report.newest_frame_ids) == ({}, {"a": 6})
    folder = settings.data.recordings_dir / "doom" / "a"
    files = {("a", path.stat().st_ino) for path in folder.iterdir()}
    assert files
    assert files <= set(disk.synced)
    report = archive.record(frames("a", 4, 6, 7))
    assert (report.recorded, report.failed) == (2, {})
    seal_and_recover(archive)
    assert recorded_ids(settings, "a") == [*earlier, 3, 6, 4, 7]
    assert recorded_ids(settings, "b") == [1]
    assert left_over(settings) == []


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_report_waits_for_the_end_of_every_sync_and_all_are_waited_for_at_once(
    settings: Settings, archive: Archive, disk: Disk, tmp_path: Path, first: str
) -> None:
    (second,) = {"a", "b"} - {first}
    begun = {name: threading.Event() for name in "ab"}
    may_end = {name: threading.Event() for name in "ab"}

    def hold(session_id: str) -> None:
        if is_of_the_pool():  # and recovery of the copy is not
            begun[session_id].set()
            assert may_end[session_id].wait(TIMEOUT_SECS)

    disk.before = hold
    with ThreadPoolExecutor(1) as caller:
        recording = caller.submit(archive.record, [*frames("a", 1, 2), *frames("b", 3, 4)])
        try:
            for event in begun.values():
                assert event.wait(TIMEOUT_SECS)
            # A kill at this instant would leave both parts with all their frames.
            assert recovered_copy(settings, tmp_path / "copy") == {"a": [1, 2], "b": [3, 4]}
            assert is_held_up(recording)
            may_end[first].set()
            assert is_held_up(recording)
        finally:
            may_end[first].set()
            may_end[second].set()
        report = recording.result(TIMEOUT_SECS)
    assert (report.recorded, report.failed) == (4, {})
    assert report.newest_frame_ids == {"a": 2, "b": 4}
    assert disk.threads[True] == 2


class CutOffError(BaseException):
    """What nobody handles, such as a signal's."""


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_batch_that_was_cut_off_began_is_waited_for_when_it_comes_again(
    settings: Settings,
    archive: Archive,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,
) -> None:
    may_end = threading.Event()
    begun: list[str] = []

    def hold(session_id: str) -> None:
        if is_of_the_pool():
            begun.append(session_id)
            assert may_end.wait(TIMEOUT_SECS)
            if fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def cut_off(*_: Any) -> None:
        raise CutOffError

    disk.before = hold
    with monkeypatch.context() as patched:
        patched.setattr(archive, "_finish", cut_off)
        with pytest.raises(CutOffError):
            archive.record(frames("a", 1, 2))
    with ThreadPoolExecutor(1) as caller:
        recording = caller.submit(archive.record, frames("a", 1, 2, 3))
        try:
            assert is_held_up(recording)
            wait_until(lambda: begun)
            assert begun == ["a"]  # two at once could hide a failure of the first
        finally:
            may_end.set()
        report = recording.result(TIMEOUT_SECS)
    assert list(report.failed) == ([("a", 1), ("a", 2), ("a", 3)] if fails else [])
    assert report.recorded == (0 if fails else 1)
    disk.mend()
    report = archive.record(frames("a", 1, 2, 3, 4))
    assert (report.failed, report.newest_frame_ids) == ({}, {"a": 4})
    seal_and_recover(archive)
    assert recorded_ids(settings, "a") == [1, 2, 3, 4]


def is_held_up(recording: Future[Any]) -> bool:
    return not wait([recording], SOON_SECS).done


def recovered_copy(settings: Settings, copy: Path) -> dict[str, list[int]]:
    """Session → ids that recovery finds in what is in the files now."""
    shutil.copytree(settings.data.recordings_dir, copy)
    found: dict[str, list[int]] = {}
    for outcome in recover_parts(copy):
        with SegmentReader(outcome.path) as reader:
            found[reader.session_id] = reader.frame_ids.tolist()
    return found


def test_a_closed_archive_leaves_no_thread_and_no_lock(settings: Settings) -> None:
    threads, before = set(threading.enumerate()), open_files()
    for round_ in range(2):
        archive = Archive(settings)
        report = archive.record([f for n in range(12) for f in frames(f"s-{n}", round_)])
        assert (report.recorded, report.failed) == (12, {})
        assert any(thread.name.startswith("fsync") for thread in threading.enumerate())
        archive.seal_all()
        archive.close()
        assert set(threading.enumerate()) <= threads
        assert open_files() == before
    assert recorded_ids(settings, "s-11") == [0, 1]


def test_an_archive_that_cannot_have_its_folder_leaves_no_thread(settings: Settings) -> None:
    holder = Archive(settings)
    threads, before = set(threading.enumerate()), open_files()
    with pytest.raises(RecordingError, match="another recorder"):
        Archive(settings)
    assert set(threading.enumerate()) <= threads
    assert open_files() == before
    holder.close()
