"""Finding sealed segments in folders, without reading their frames."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.recording.layout import SEALED_SUFFIX, check_id, segment_number
from sgaps.recording.opening import blame
from sgaps.recording.reader import SegmentReader

log = logging.getLogger(__name__)

_corrupt: dict[Path, tuple[int, int]] = {}
"""Size and time of files that turned out to be no valid segments: who looks for news again and
again, as the trainer does, need not hear of them each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentInfo:
    """A sealed segment, as one needs it to choose what to read."""

    path: Path
    checkpoint_key: str
    session_id: str
    number: int
    frame_count: int
    keyframe_count: int
    size_bytes: int
    modified_at_ns: int
    """Of the file, since 1970: with its size it tells it from another of the same name."""

    def is_unchanged(self) -> bool:
        """Whether the file is there, and no other one by now."""
        return _size_and_time(self.path) == (self.size_bytes, self.modified_at_ns)


def segment_info(path: Path) -> SegmentInfo:
    """Look into a sealed segment. Raises RecordingError, RecordingCorrupt."""
    number = segment_number(path)
    if number is None or path.suffix != SEALED_SUFFIX:
        if not path.exists():
            raise RecordingError(f"there is no {path}: name a folder of recordings, or a segment")
        raise RecordingCorrupt(f"{path} has not the name of a sealed segment")
    with SegmentReader(path) as reader:
        try:
            status = path.stat()
        except OSError as error:  # a recorder has deleted it
            raise blame(path, error) from error
        return SegmentInfo(
            path=path,
            checkpoint_key=reader.checkpoint_key,
            session_id=reader.session_id,
            number=number,
            frame_count=len(reader),
            keyframe_count=len(reader.keyframe_positions),
            size_bytes=status.st_size,
            modified_at_ns=status.st_mtime_ns,
        )


def find_segments(
    root: Path, checkpoint_key: str | None = None, *, known: Iterable[SegmentInfo] = ()
) -> list[SegmentInfo]:
    """All sealed segments under a recordings folder, in order; unreadable ones are logged.

    Of the known ones those that are as they were are not opened again, nor are corrupt ones, which
    are logged once. Raises RecordingError on an illegal key.
    """
    key = "*" if checkpoint_key is None else check_id(checkpoint_key)
    by_path = {segment.path: segment for segment in known}
    found = []
    for path in sorted(root.glob(f"{key}/*/*{SEALED_SUFFIX}")):
        before = by_path.get(path)
        segment = before if before and before.is_unchanged() else _look_into(path)
        if segment:
            found.append(segment)
    return found


def _look_into(path: Path) -> SegmentInfo | None:
    state = _size_and_time(path)
    if state and _corrupt.get(path) == state:
        return None
    try:
        return segment_info(path)
    except RecordingError as error:
        log.warning("a segment is left out: %s", error)
        if state and isinstance(error, RecordingCorrupt):
            _corrupt[path] = state
    return None


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """Bytes and ns; None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
