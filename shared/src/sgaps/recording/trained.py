"""Which sealed segments training has had: the trainer notes it, and nothing else may be deleted.

`<checkpoints>/<key>/trained.json` names segments of the recordings folder. A segment is known by
its size and time too: what comes to the same name later is another one, and has not been trained.
Times are those of whole seconds: most backups keep no others.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sgaps.checkpoints import CheckpointDirectory
from sgaps.durable import write_durably
from sgaps.errors import RecordingError
from sgaps.locks import lock
from sgaps.recording.disk import write_error
from sgaps.recording.find import SegmentInfo
from sgaps.recording.layout import check_id

TRAINED_NAME = "trained.json"


class SegmentName(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One sealed segment, which never changes."""

    path: str
    """Relative to the recordings folder."""
    size_bytes: int
    modified_at_secs: int


class _TrainedFile(msgspec.Struct, frozen=True, kw_only=True):
    segments: list[SegmentName]


def name_of(path: Path, status: os.stat_result, root: Path) -> SegmentName:
    """Name of a file below the recordings folder `root`."""
    seconds = status.st_mtime_ns // 10**9
    return SegmentName(path.relative_to(root).as_posix(), status.st_size, seconds)


def segment_name(segment: SegmentInfo, root: Path) -> SegmentName:
    """Name of a segment, with its whole path where it is not below the recordings folder `root`."""
    path = segment.path.relative_to(root) if root in segment.path.parents else segment.path
    return SegmentName(path.as_posix(), segment.size_bytes, segment.modified_at_ns // 10**9)


def trained_segments(checkpoint_key: str, checkpoints_dir: Path) -> frozenset[SegmentName]:
    """What runs of a key have had. Raises RecordingError and CheckpointError: it is unreadable."""
    path = _file(checkpoint_key, checkpoints_dir)
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=_TrainedFile)
    except FileNotFoundError:
        return frozenset()
    except (OSError, msgspec.DecodeError) as error:
        raise RecordingError(f"cannot read {path}: {error}") from error
    return frozenset(noted.segments)


def note_trained(
    checkpoint_key: str, checkpoints_dir: Path, segments: Iterable[SegmentInfo], *, root: Path
) -> None:
    """Note what a run of a key has had of its segments in the recordings folder `root`.

    Segments of other folders and keys are not noted, and deleted ones are forgotten. Raises
    RecordingError.
    """
    before = trained_segments(checkpoint_key, checkpoints_dir)
    noted = {name.path: name for name in before if (root / name.path).exists()}
    folder = root / check_id(checkpoint_key)
    had = [segment_name(segment, root) for segment in segments if folder in segment.path.parents]
    noted |= {name.path: name for name in had}
    path = _file(checkpoint_key, checkpoints_dir)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, msgspec.json.encode(_TrainedFile(segments=sorted(noted.values()))))
    except OSError as error:
        raise write_error(f"cannot write {path}", error) from error


def untrained(
    segments: Iterable[SegmentInfo], known: Iterable[SegmentName], *, root: Path
) -> list[SegmentInfo]:
    """Those of a key's segments that are not among the known."""
    known_names = frozenset(known)
    return [segment for segment in segments if segment_name(segment, root) not in known_names]


@contextmanager
def being_read(root: Path, checkpoint_key: str) -> Iterator[None]:
    """While this lasts, nothing of the key is deleted; others may read as well.

    Raises RecordingError.
    """
    try:
        descriptor = os.open(root / check_id(checkpoint_key), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise RecordingError(f"cannot read the recordings of {checkpoint_key}: {error}") from error
    try:
        lock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _file(checkpoint_key: str, checkpoints_dir: Path) -> Path:
    return CheckpointDirectory(checkpoints_dir).key_dir(checkpoint_key) / TRAINED_NAME
