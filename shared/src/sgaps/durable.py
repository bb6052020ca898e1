"""Files and folders that survive a power cut, with their names."""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash it is the old or the new one, whole.

    Raises OSError; then the old one is there, and nothing beside it.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether it is named as what `write_durably` has not finished: being written, or left over."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) is not None


def fsync_folder(folder: Path) -> None:
    """Make names that were made, renamed or removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)
