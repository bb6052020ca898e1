"""What takes long to import, and is not to answer Ctrl-C by a traceback meanwhile.

`python -m sgaps_cli.begin MODULE` runs the `main` of a module that imports torch.
"""

from __future__ import annotations

import importlib
import signal
import sys
from types import ModuleType


def imported(name: str) -> ModuleType:
    """A module. While it is imported, Ctrl-C just ends this process, unless it is deaf to it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # which a shell gives what it runs in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    module = importlib.import_module(name)
    signal.signal(signal.SIGINT, before)
    return module


if __name__ == "__main__":
    sys.exit(imported(sys.argv.pop(1)).main())
