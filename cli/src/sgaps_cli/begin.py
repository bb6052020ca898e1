"""How commands begin, and end where they cannot print: without a traceback.

`python -m sgaps_cli.begin MODULE` runs the `main` of a module that imports torch.
"""

from __future__ import annotations

import errno
import importlib
import io
import signal
import sys
from types import ModuleType
from typing import NoReturn

from sgaps.terminal import write_no_more


def imported(name: str) -> ModuleType:
    """A module that takes long to import.

    While it is imported, Ctrl-C just ends this process, unless it is deaf to it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # which a shell gives what it runs in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    module = importlib.import_module(name)
    signal.signal(signal.SIGINT, before)
    return module


def print_any_name() -> None:
    """Names of files are bytes, and not every terminal has every letter: have what cannot be
    printed told as `\\udcff`, not raised."""
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):  # None where it was closed before
        return
    if (out.encoding, out.errors) != ("utf-8", "surrogateescape"):  # by which bytes pass
        out.reconfigure(errors="backslashreplace")


def end_unwritten(error: OSError) -> NoReturn:
    """End, as nobody reads what we print (EIO: its terminal is closed) or a disk is full, which is
    told. Raises other errors."""
    if error.errno not in {errno.EPIPE, errno.EIO, errno.ENOSPC}:
        raise error
    if error.errno == errno.ENOSPC:
        where = f"{error.filename}: " if error.filename else ""  # what is printed has no name
        sys.stderr.write(f"sgaps: {where}{error.strerror}\n")
    write_no_more(sys.stdout)
    sys.exit(1)


if __name__ == "__main__":
    print_any_name()
    try:
        sys.exit(imported(sys.argv.pop(1)).main())
    except OSError as unwritten:
        end_unwritten(unwritten)
