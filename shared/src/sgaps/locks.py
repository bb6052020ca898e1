"""Locks of open files, which the kernel gives back when they are closed, by kill -9 too.

A file system that has none does without: who has to be sure (`reconstructor.gpus`) asks the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def lock(descriptor: int, kind: int) -> None:
    """As `fcntl.flock`; where the file system has no locks, everything is free."""
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file; False if somebody has it."""
    try:
        lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody has the lock of a file, and so writes to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # it may be a FIFO
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)
