"""Where a program writes, and cannot."""

from __future__ import annotations

import errno
import io


class Closed(io.StringIO):
    """Nobody reads it any more."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")
