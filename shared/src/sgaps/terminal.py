"""Streams to whoever started a command, which are not worth its work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import TextIO, cast


def dispensable(stream: TextIO) -> TextIO:
    """The stream, which after its first error drops what is written and raises nothing.

    As where `sgaps up | tee log` and Ctrl-C ended both, or a log on a disk that is full.
    """
    return cast(TextIO, _Dispensable(stream))


@contextmanager
def dispensable_stderr() -> Iterator[None]:
    """For tqdm, which looks for `sys.stderr` itself, and raises its errors out of a run."""
    with redirect_stderr(dispensable(sys.stderr)):
        yield


class _Dispensable:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, UnicodeEncodeError):
            write_no_more(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            write_no_more(self._stream)


def write_no_more(stream: TextIO) -> None:
    """What it still holds would be tried again, and fail, when the interpreter ends."""
    with suppress(OSError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
