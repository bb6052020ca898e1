"""How many files a process may have open."""

from __future__ import annotations

import contextlib
import resource


def allow_most_open_files() -> None:
    """As many as the system lets it: a shell's usual 1,024 are soon used up by folders and files of
    many sessions."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that there is no limit, and refuses to have none.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
