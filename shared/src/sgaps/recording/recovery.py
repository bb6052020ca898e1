"""What a killed writer left: its parts are read as far as they are valid, and sealed.

A part is copied to `.h5.recovering`, that is renamed to `.h5`, and only then the part goes; a
kill at any point leaves something that the next call finishes.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sgaps.durable import fsync_folder
from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.locks import try_lock
from sgaps.recording.disk import write_error
from sgaps.recording.find import SegmentInfo, segment_info
from sgaps.recording.frames import RecordedFrame
from sgaps.recording.layout import (
    BAD_SUFFIX,
    FRAMES_PER_CHUNK,
    INDEX_DTYPE,
    PART_SUFFIX,
    RECOVERING_SUFFIX,
    all_part_paths,
    next_segment_path,
    sealed_paths,
    with_suffix_added,
)
from sgaps.recording.reader import SegmentReader
from sgaps.recording.writer import SegmentWriter

log = logging.getLogger(__name__)

Take: TypeAlias = Callable[[SegmentReader, int], RecordedFrame | None]
"""What to keep of the frame at a position; None for nothing. Raises RecordingCorrupt."""

_FRAMES_PER_WRITE = 16
_IN_CREATION = b"\x89HDF\r\n\x1a\n\x03\x08\x08\x01"
"""Signature; version of the superblock; bytes of an offset, of a length; open for writing alone."""
_LEAST_BYTES_OF_A_FRAME = FRAMES_PER_CHUNK * INDEX_DTYPE.itemsize
"""A chunk of the index comes with the first one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredSegment:
    """What became of one part, or of a damaged segment."""

    path: Path
    """Where it is now: `.h5`, `.h5.bad`, or still `.h5.part` if it could not be dealt with."""
    info: SegmentInfo | None
    """The sealed segment, if there is one."""
    reason: str = ""
    """Why there is none."""


def recover_parts(root: Path) -> list[RecoveredSegment]:
    """Seal every part under a recordings folder whose writer is gone; idempotent, never raises."""
    outcomes = [_recover_or_leave(part) for part in all_part_paths(root)]
    return [outcome for outcome in outcomes if outcome is not None]


def _recover_or_leave(part: Path) -> RecoveredSegment | None:
    try:
        return recover_part(part)
    except RecordingError as error:
        log.error("%s is left for later: %s", part, error)  # noqa: TRY400 - it says all
        return RecoveredSegment(path=part, info=None, reason=str(error))


def recover_part(part: Path) -> RecoveredSegment | None:
    """Seal one part, or move it aside if it has no readable frame. None if its writer lives.

    A part that no frame was written to is removed. Raises RecordingError if it cannot be dealt
    with now, such as DiskFull.
    """
    try:
        with _lock(part) as is_mine:
            return _deal_with(part) if is_mine else None
    except OSError as error:
        raise write_error(f"cannot recover {part}", error) from error


def salvage(segment: Path, *, take: Take) -> RecoveredSegment:
    """Copy what is taken of the frames of a sealed segment into a new one of its session, each id
    once, then move the old one aside: where it is, is told, and what the new one has.

    Raises RecordingError if it cannot be done now; a kill leaves nothing that the next call does
    not finish.
    """
    info, reason = None, ""
    try:
        with SegmentReader(segment, salvage=True) as reader:
            copy = next_segment_path(segment.parent)
            # Among the segments before the copy are some that are younger than what it has.
            taken = _readable(reader, take)
            _copy(reader, taken, copy, suffix=PART_SUFFIX, newest_before=None)
        info = segment_info(copy)
    except RecordingCorrupt as error:
        reason = str(error)
    return RecoveredSegment(path=_move_aside(segment, segment), info=info, reason=reason)


@contextlib.contextmanager
def _lock(part: Path) -> Iterator[bool]:
    descriptor = os.open(part, os.O_RDWR)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # reading a FIFO would never end
            raise RecordingError(f"{part} is no regular file")
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _deal_with(part: Path) -> RecoveredSegment:
    sealed = part.with_suffix("")
    try:
        info = _seal(part, sealed)
    except RecordingCorrupt as error:
        bad = _move_aside(part, sealed)
        log.error("%s becomes %s: %s", part, bad.name, error)  # noqa: TRY400
        return RecoveredSegment(path=bad, info=None, reason=str(error))
    part.unlink()
    fsync_folder(part.parent)
    if info is None:
        return RecoveredSegment(path=part, info=None, reason="no frame was written to it")
    log.warning("recovered %d frames: %s", info.frame_count, info.path)
    return RecoveredSegment(path=info.path, info=info)


def _move_aside(path: Path, sealed: Path) -> Path:
    """Rename to `.h5.bad`, or `.h5.bad.1` and so on: what is aside already stays too."""
    bad = with_suffix_added(sealed, BAD_SUFFIX)
    numbers = itertools.count(1)
    while bad.exists():
        bad = with_suffix_added(sealed, f"{BAD_SUFFIX}.{next(numbers)}")
    try:
        path.rename(bad)
        fsync_folder(path.parent)
    except OSError as error:
        raise write_error(f"cannot move {path} aside", error) from error
    return bad


def _seal(part: Path, sealed: Path) -> SegmentInfo | None:
    if _is_cut_off_at_its_creation(part):
        return None
    with SegmentReader(part, salvage=True) as reader:
        if reader.row_count == 0:
            return None
        if not sealed.exists():
            before = reader.newest_before
            _copy(reader, _readable(reader), sealed, suffix=RECOVERING_SUFFIX, newest_before=before)
            return segment_info(sealed)
        beside = _frame_ids_beside(part)
        there = set().union(*beside.values())
        if beside and all(frame.frame_id in there for frame in _readable(reader)):
            # It was sealed, and then its writer was killed.
            return segment_info(sealed if sealed in beside else max(beside))
        # The segment was damaged since, or put there by somebody: repair may yet save more of it.
        rest = next_segment_path(part.parent)
        lacking = (frame for frame in _readable(reader) if frame.frame_id not in there)
        _copy(reader, lacking, rest, suffix=RECOVERING_SUFFIX, newest_before=None)
    return segment_info(rest)


def _is_cut_off_at_its_creation(part: Path) -> bool:
    """Whether its writer died before it could write a frame.

    HDF5 notes in the head of a file who has it open: from its first bytes on somebody who writes,
    and last of all, before the first frame, that others may read meanwhile.
    """
    with part.open("rb") as file:
        head = file.read(len(_IN_CREATION))
    return not head or (head == _IN_CREATION and part.stat().st_size < _LEAST_BYTES_OF_A_FRAME)


def _frame_ids_beside(part: Path) -> dict[Path, set[int]]:
    """What the sealed segments of its session have, of those that can be opened."""
    there = {}
    for sealed in sealed_paths(part.parent):
        with contextlib.suppress(RecordingCorrupt), SegmentReader(sealed) as segment:
            there[sealed] = set(segment.frame_ids.tolist())
    return there


def _copy(
    reader: SegmentReader,
    frames: Iterator[RecordedFrame],
    sealed: Path,
    *,
    suffix: str,
    newest_before: int | None,
) -> None:
    """Into another file what was read of one."""
    unfinished = with_suffix_added(sealed, suffix)
    unfinished.unlink(missing_ok=True)
    writer = SegmentWriter(
        sealed,
        checkpoint_key=reader.checkpoint_key,
        session_id=reader.session_id,
        max_state_dim=reader.max_state_dim,
        sentinel=reader.sentinel,
        newest_before=newest_before,
        suffix=suffix,
    )
    try:
        _copy_frames(_each_once(frames), writer)
        if not writer.frame_count:
            raise RecordingCorrupt(f"{reader.path} has no readable frame")
        writer.seal()
    except RecordingError:
        writer.abandon()
        unfinished.unlink(missing_ok=True)
        raise


def _copy_frames(frames: Iterator[RecordedFrame], writer: SegmentWriter) -> None:
    while batch := list(itertools.islice(frames, _FRAMES_PER_WRITE)):
        writer.append(batch)


def _each_once(frames: Iterator[RecordedFrame]) -> Iterator[RecordedFrame]:
    known: set[int] = set()
    for frame in frames:
        if frame.frame_id not in known:
            known.add(frame.frame_id)
            yield frame


def _readable(reader: SegmentReader, take: Take = SegmentReader.read) -> Iterator[RecordedFrame]:
    for position in range(len(reader)):
        try:
            frame = take(reader, position)
        except RecordingCorrupt as error:
            log.error("a frame is lost: %s", error)  # noqa: TRY400
        else:
            if frame is not None:
                yield frame
