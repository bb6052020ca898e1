"""File systems on which nothing can be locked."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest


def refuse_locks(patch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    """Answer each lock as the kernel does where there are none, or with another error."""

    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(fcntl, "flock", flock)
