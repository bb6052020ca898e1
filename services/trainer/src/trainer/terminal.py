"""What is told to whoever started a command is not worth its work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import TextIO, cast


@contextmanager
def dispensable_stderr() -> Iterator[None]:
    """What stderr cannot take (`2>&1 | tee log`, and Ctrl-C ended both; a full disk) is dropped.

    tqdm, which looks for `sys.stderr` itself, raises it out of the run.
    """
    with redirect_stderr(cast(TextIO, _Dispensable(sys.stderr))):
        yield


class _Dispensable:
    """A stream that writes nothing more after its first error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """What it still holds would be tried again, and fail, when the interpreter ends."""
        with suppress(OSError):  # a stream without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
