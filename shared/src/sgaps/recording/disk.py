"""What must be true of the disk before and after a write."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from math import nan
from pathlib import Path

from sgaps.durable import make_folder
from sgaps.errors import DiskFull, RecordingError, StorageFails
from sgaps.locks import try_lock

LOCK_NAME = ".recorder.lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_kept_open: set[tuple[int, int]] = set()


def ensure_free_space(path: Path, min_free_bytes: int) -> None:
    """Raises DiskFull if the file system of `path` has less free, StorageFails if it is gone."""
    try:
        free_bytes = shutil.disk_usage(path).free
    except OSError as error:
        raise StorageFails(f"cannot look at the disk of {path}: {error}") from error
    if free_bytes < min_free_bytes:
        raise DiskFull(f"{free_bytes} bytes free at {path}, {min_free_bytes} are needed")


def ensure_writable(folder: Path) -> None:
    """Raises StorageFails if nothing can be written there, for whatever reason."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        kind = DiskFull if error.errno in _FULL else StorageFails
        raise kind(f"nothing can be written to {folder}: {error}") from error


def free_space_bytes(path: Path) -> float:
    """What is free on the file system of `path`; NaN where nobody can say."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return nan


def system_errno(error: BaseException) -> int | None:
    """The system's error number behind an error of h5py, which often has it in its text only."""
    named = re.search(r"errno = ([0-9]+)", str(error))
    number = int(named[1]) if named else getattr(error, "errno", None)
    return number if isinstance(number, int) else None


def write_error(what: str, cause: Exception) -> RecordingError:
    """DiskFull where no space is left, RecordingError for any other cause; in one line."""
    kind = DiskFull if system_errno(cause) in _FULL else RecordingError
    return kind(f"{what}: {' '.join(str(cause).split())}")


def lock_recordings(root: Path) -> int:
    """Make the folder and take the lock that says who records there; close it to give it back.

    Raises RecordingError if somebody else has it, or the folder cannot be used.
    """
    try:
        make_folder(root)
        descriptor = os.open(root / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_error(f"cannot use the recordings folder {root}", error) from error
    if not try_lock(descriptor):
        os.close(descriptor)
        raise RecordingError(f"another recorder writes to {root}")
    return descriptor


def keep_open(path: Path) -> None:
    """Note a file that HDF5 failed to close: it would hand it out for any file with its inode,
    which the system gives to no other as long as somebody has it open.
    """
    status = os.fstat(os.open(path, os.O_RDONLY))
    _kept_open.add((status.st_dev, status.st_ino))


def is_kept_open(path: Path) -> bool:
    """Whether HDF5 has this very file open in this process, for ever."""
    status = path.stat()
    return (status.st_dev, status.st_ino) in _kept_open


def memory_folder() -> str:
    """A folder for files that need not last, in memory where the system has one there."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()  # noqa: S108


def scratch_descriptor() -> int:
    """A file without a name that takes every write, in memory where the system can."""
    if sys.platform == "linux":
        return os.memfd_create("scratch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
