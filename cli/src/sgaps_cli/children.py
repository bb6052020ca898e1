"""Processes that must not outlive the one that started them, and what they said last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def ends_with_us(command: Sequence[str]) -> list[str]:
    """The command, as a process that hears SIGTERM when we are gone, also after `kill -9`.

    "We" is the thread that starts it, so start it from one that lasts. Linux only; where there
    is no `setpriv` (util-linux) it stays a command as any other.
    """
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []), *command]


def last_words(log_file: Path, *, from_bytes: int) -> str:
    """The last line of a log behind its first bytes, which are of those that ran before.

    Where there is none its disk may be full: then how much is free there. Raises OSError.
    """
    with log_file.open("rb") as log:
        log.seek(from_bytes)
        lines = log.read().decode(errors="replace").splitlines()
    if lines:
        return lines[-1]
    free_bytes = shutil.disk_usage(log_file.parent).free
    return f"it said nothing, {free_bytes} bytes are free in {log_file.parent}"
