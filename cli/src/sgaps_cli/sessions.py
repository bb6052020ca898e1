"""What is under a recordings folder, and may be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sgaps.errors import RecordingError
from sgaps.recording import SegmentInfo, segment_info
from sgaps.recording.layout import sealed_paths
from sgaps.settings import load_settings


def recordings_folder(root: Path | None) -> Path:
    """As given or configured. Raises RecordingError where it is not there."""
    folder = root or load_settings().data.recordings_dir
    with reading(folder):
        is_there = folder.is_dir()
    if not is_there:
        raise RecordingError(f"there is no folder {folder}; record something: sgaps up")
    return folder


def session_folders(root: Path) -> list[Path]:
    """Folders of all sessions under a recordings folder. Raises RecordingError."""
    return [session for key in _folders(root) for session in _folders(key)]


def _folders(parent: Path) -> list[Path]:
    with suppress(FileNotFoundError), reading(parent):
        return sorted(filter(Path.is_dir, parent.iterdir()))
    return []


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """What the system refuses is a RecordingError; what is gone stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        where = error.filename or folder
        raise RecordingError(f"{where} cannot be read: {error.strerror}") from error


def sealed_segments(session: Path) -> tuple[list[SegmentInfo], int]:
    """The sealed segments, and how many of them cannot be read. Raises RecordingError."""
    infos, damaged = [], 0
    for path in sealed_paths(session):
        try:
            infos.append(segment_info(path))
        except RecordingError:
            with reading(session):
                damaged += path.exists()  # one that was deleted meanwhile is well
    return infos, damaged
