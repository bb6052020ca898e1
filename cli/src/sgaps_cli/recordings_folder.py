"""What is under a recordings folder, and may be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sgaps.errors import RecordingError
from sgaps.protocol.ids import is_valid_id
from sgaps.recording import SegmentInfo, segment_info
from sgaps.recording.layout import SEALED_SUFFIX, sealed_paths
from sgaps.settings import load_settings


def recordings_folder(root: Path | None) -> Path:
    """As given or configured. Raises RecordingError where it is not there."""
    folder = root or load_settings().data.recordings_dir
    with reading(folder):
        is_there = folder.is_dir()
    if not is_there:
        raise RecordingError(
            f"there is no folder {folder.absolute()}: cd to where sgaps up runs, name another "
            "(of recordings with --root), or record something: sgaps up"
        )
    return folder


def recorded_sessions(root: Path | None) -> tuple[Path, list[Path]]:
    """The folder as given or configured, and those of its sessions.

    Raises RecordingError where it holds something else: nothing would be well of nothing.
    """
    folder = recordings_folder(root)
    sessions = session_folders(folder)
    holds = sessions or _keys(folder) or sealed_paths(folder)
    if holds and not any(map(_may_have_segments, sessions)):
        raise RecordingError(f"no recordings in {folder}: name the folder of <key>/<session>/")
    return folder, sessions


def _may_have_segments(session: Path) -> bool:
    return not os.access(session, os.R_OK | os.X_OK) or any(session.glob(f"*{SEALED_SUFFIX}*"))


def session_folders(root: Path) -> list[Path]:
    """Folders of all sessions under a recordings folder, without those of what can be no key, such
    as `lost+found`. A key that cannot be read stands for its sessions: who looks into it is told
    why. Raises RecordingError where it is the root.
    """
    return [session for key in _keys(root) for session in _sessions(key)]


def _keys(root: Path) -> list[Path]:
    return [folder for folder in _folders(root) if is_valid_id(folder.name)]


def _sessions(key: Path) -> list[Path]:
    try:
        return _folders(key)
    except RecordingError:
        return [key]


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
