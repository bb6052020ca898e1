"""What a killed writer left: its parts are read as far as they are valid, and sealed.

A part is copied to `.h5.recovering`, that is renamed to `.h5`, and only then the part goes; a
kill at any point leaves something that the next call finishes.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.recording.disk import fsync_folder, try_lock
from sgaps.recording.frames import RecordedFrame
from sgaps.recording.layout import (
    BAD_SUFFIX,
    PART_SUFFIX,
    RECOVERING_SUFFIX,
    SEALED_SUFFIX,
    with_suffix_added,
)
from sgaps.recording.reader import SegmentInfo, SegmentReader, segment_info
from sgaps.recording.writer import SegmentWriter

log = logging.getLogger(__name__)

_FRAMES_PER_WRITE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredSegment:
    """What became of one part."""

    path: Path
    """Where it is now: `.h5`, `.h5.bad`, or still `.h5.part` if it could not be dealt with."""
    info: SegmentInfo | None
    """The sealed segment, if there is one."""
    reason: str = ""
    """Why there is none."""


def recover_parts(root: Path) -> list[RecoveredSegment]:
    """Seal every part under a recordings folder whose writer is gone; idempotent, never raises."""
    parts = sorted(root.glob(f"*/*/*{SEALED_SUFFIX}{PART_SUFFIX}"))
    outcomes = [recover_part(part) for part in parts]
    return [outcome for outcome in outcomes if outcome is not None]


def recover_part(part: Path) -> RecoveredSegment | None:
    """Seal one part, or move it aside if it has no readable frame. None if its writer lives."""
    try:
        with _lock(part) as is_mine:
            return _seal_or_move_aside(part) if is_mine else None
    except (RecordingError, OSError) as error:
        log.exception("%s is left for later", part)
        return RecoveredSegment(path=part, info=None, reason=str(error))


@contextlib.contextmanager
def _lock(part: Path) -> Iterator[bool]:
    descriptor = os.open(part, os.O_RDWR)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _seal_or_move_aside(part: Path) -> RecoveredSegment:
    sealed = part.with_suffix("")
    try:
        info = _seal(part, sealed)
    except RecordingCorrupt as error:
        bad = with_suffix_added(sealed, BAD_SUFFIX)
        log.exception("%s becomes %s", part, bad)
        part.rename(bad)
        fsync_folder(part.parent)
        return RecoveredSegment(path=bad, info=None, reason=str(error))
    part.unlink()
    fsync_folder(part.parent)
    log.warning("recovered %d frames: %s", info.frame_count, sealed)
    return RecoveredSegment(path=sealed, info=info)


def _seal(part: Path, sealed: Path) -> SegmentInfo:
    with SegmentReader(part, salvage=True) as reader:
        if not sealed.exists():
            _copy(reader, sealed)
        elif segment_info(sealed).frame_count < len(reader):
            raise RecordingCorrupt(f"{sealed} exists and has fewer frames than its part")
    return segment_info(sealed)


def _copy(reader: SegmentReader, sealed: Path) -> None:
    unfinished = with_suffix_added(sealed, RECOVERING_SUFFIX)
    unfinished.unlink(missing_ok=True)
    writer = SegmentWriter(
        sealed,
        checkpoint_key=reader.checkpoint_key,
        session_id=reader.session_id,
        max_state_dim=reader.max_state_dim,
        sentinel=reader.sentinel,
        suffix=RECOVERING_SUFFIX,
    )
    try:
        _copy_frames(reader, writer)
        writer.seal()
    except RecordingError:
        writer.abandon()
        unfinished.unlink(missing_ok=True)
        raise


def _copy_frames(reader: SegmentReader, writer: SegmentWriter) -> None:
    frames = _readable(reader)
    while batch := list(itertools.islice(frames, _FRAMES_PER_WRITE)):
        writer.append(batch)
    if not writer.frame_count:
        raise RecordingCorrupt(f"{reader.path} has no readable frame")


def _readable(reader: SegmentReader) -> Iterator[RecordedFrame]:
    try:
        yield from reader
    except RecordingCorrupt:
        log.exception("the frames from here on are lost")
