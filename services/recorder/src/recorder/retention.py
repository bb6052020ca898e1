"""What may go when recordings are too old or too many: sealed, trained, and nobody's any more."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from sgaps.durable import fsync_folder
from sgaps.errors import CheckpointError, RecordingError
from sgaps.keys import SESSION_TTL_SECS
from sgaps.locks import try_lock
from sgaps.metrics import recorder as metrics
from sgaps.protocol.ids import is_valid_id
from sgaps.recording.disk import write_error
from sgaps.recording.layout import SEALED_SUFFIX, segment_number
from sgaps.recording.trained import SegmentName, name_of, trained_segments
from sgaps.settings import Settings

log = logging.getLogger(__name__)

REFUSED_FOR_SECS = 300.0
"""A folder in which nothing could be deleted is passed over so long: others have room to give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSegment:
    """A sealed segment, as its name and the file system tell it."""

    path: Path
    name: SegmentName
    checkpoint_key: str
    is_newest: bool
    """Of its session, which says what comes next as long as the session may go on."""

    def age_secs(self, now_secs: float) -> float:
        return now_secs - self.name.modified_at_secs


class Retention:
    """Chooses and deletes, the oldest first. Without a limit in the settings it does nothing.

    What is being written, was left by a killed writer or is set aside stays; so does every segment
    that no training run of its key has had.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.data.recordings_dir
        self._checkpoints_dir = settings.data.checkpoints_dir
        self._keep_secs = settings.recorder.keep_secs
        self._keep_bytes = settings.recorder.keep_bytes
        self._told = False
        self._refused_until_secs: dict[Path, float] = {}
        """Folders of sessions, on the monotonic clock."""

    def surplus(self, now_secs: float, *, short_bytes: int = 0) -> list[StoredSegment]:
        """The segments to delete now: those beyond the limits, and so many bytes at least.

        Fewer where no more may be deleted. `now_secs` is wall-clock time. Raises RecordingError.
        """
        if self._keep_secs is None and self._keep_bytes is None:
            return []
        with _told("cannot look at the recordings"):
            stored, total_bytes = _scan(self._root)
        chosen, freed_bytes = [], 0
        for segment in self._deletable(stored, now_secs):
            is_too_old = (
                self._keep_secs is not None and segment.age_secs(now_secs) > self._keep_secs
            )
            if is_too_old or self._excess(total_bytes - freed_bytes) or freed_bytes < short_bytes:
                chosen.append(segment)
                freed_bytes += segment.name.size_bytes
        self._tell(self._excess(total_bytes - freed_bytes))
        return chosen

    def delete(self, segments: Sequence[StoredSegment]) -> None:
        """Delete them, durably; those of a key that is being trained only the next time.

        Raises RecordingError if the system refuses, once all that can be deleted is.
        """
        refused: dict[Path, OSError] = {}
        for key, of_key in groupby(segments, lambda segment: segment.checkpoint_key):
            with _told("cannot delete recordings"), _alone(self._root / key) as is_alone:
                for folder, of_session in groupby(of_key, lambda s: s.path.parent):
                    try:
                        if is_alone:
                            _delete(folder, list(of_session))
                    except OSError as error:
                        refused[folder] = error
        again_at_secs = time.monotonic() + REFUSED_FOR_SECS
        self._refused_until_secs |= dict.fromkeys(refused, again_at_secs)
        if refused:
            folder, cause = next(iter(refused.items()))
            what = f"{len(refused)} sessions cannot be deleted, such as {folder}"
            raise write_error(what, cause) from cause

    def _deletable(self, stored: Sequence[StoredSegment], now_secs: float) -> list[StoredSegment]:
        """Oldest first. What cannot go now would be counted as room, and others stay for it."""
        trained = {key: self._trained(key) for key in {s.checkpoint_key for s in stored}}
        self._refused_until_secs = {
            folder: until_secs
            for folder, until_secs in self._refused_until_secs.items()
            if until_secs > time.monotonic()
        }
        return sorted(
            (
                segment
                for segment in stored
                if segment.name in trained[segment.checkpoint_key]
                and segment.path.parent not in self._refused_until_secs
                and not (segment.is_newest and segment.age_secs(now_secs) < SESSION_TTL_SECS)
            ),
            key=lambda segment: segment.name.modified_at_secs,
        )

    def _trained(self, key: str) -> frozenset[SegmentName]:
        """Nothing while somebody reads the key's segments."""
        try:
            with _told("cannot look at the recordings"), _alone(self._root / key) as is_alone:
                return trained_segments(key, self._checkpoints_dir) if is_alone else frozenset()
        except (CheckpointError, RecordingError) as error:
            log.error("nothing of %s is deleted: %s", key, error)  # noqa: TRY400 - it says all
            return frozenset()

    def _excess(self, total_bytes: int) -> int:
        return 0 if self._keep_bytes is None else max(0, total_bytes - self._keep_bytes)

    def _tell(self, excess_bytes: int) -> None:
        if excess_bytes and not self._told:
            log.warning("%d bytes over keep_bytes: the rest may not go yet", excess_bytes)
        self._told = excess_bytes > 0


def _scan(root: Path) -> tuple[list[StoredSegment], int]:
    """All sealed segments, and the bytes of all files of all sessions."""
    stored: list[StoredSegment] = []
    total_bytes = 0
    for key in _folders(root):
        for session in _sessions(key):
            files = _files(session)
            total_bytes += sum(status.st_size for _, status in files)
            numbers = [number for path, _ in files if (number := segment_number(path)) is not None]
            newest = max(numbers, default=None)
            stored += [
                StoredSegment(
                    path=path,
                    name=name_of(path, status, root),
                    checkpoint_key=key.name,
                    is_newest=segment_number(path) == newest,
                )
                for path, status in files
                if path.suffix == SEALED_SUFFIX and segment_number(path) is not None
            ]
    return stored, total_bytes


def _sessions(key: Path) -> list[Path]:
    """None of a folder that is not ours to read: the others are looked after all the same."""
    try:
        return _folders(key)
    except PermissionError as error:
        _tell_once(f"nothing in {key} is counted or deleted: {error}")
        return []


@lru_cache(maxsize=1024)
def _tell_once(trouble: str) -> None:
    log.error("%s", trouble)


def _folders(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and is_valid_id(entry.name)
        ]
    return []


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # a part that was sealed meanwhile
            found.append((path, path.lstat()))
    return found


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(what, error) from error


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody reads the segments of a key: see `sgaps.recording.trained.being_read`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _delete(folder: Path, segments: Sequence[StoredSegment]) -> None:
    gone = [segment for segment in segments if _unlinked(segment.path)]
    if not gone:
        return
    fsync_folder(folder)
    with suppress(OSError):  # it still has something
        folder.rmdir()
        fsync_folder(folder.parent)
    size_bytes = sum(segment.name.size_bytes for segment in gone)
    metrics.SEGMENTS_DELETED.inc(len(gone))
    metrics.DELETED_BYTES.inc(size_bytes)
    names = ", ".join(segment.name.path for segment in gone)
    log.info("deleted %s: trained, %d bytes", names, size_bytes)


def _unlinked(path: Path) -> bool:
    """Another recorder may have been quicker, or whoever looks after the disk."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
