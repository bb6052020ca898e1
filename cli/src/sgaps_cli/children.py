"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence


def ends_with_us(command: Sequence[str]) -> list[str]:
    """The command, as a process that hears SIGTERM when we are gone, also after `kill -9`.

    "We" is the thread that starts it, so start it from one that lasts. Linux only; where there
    is no `setpriv` (util-linux) it stays a command as any other.
    """
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []), *command]
