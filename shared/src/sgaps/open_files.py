"""How many files a process may have open."""

from __future__ import annotations

import resource


def allow_most_open_files() -> None:
    """As many as the system lets it: a shell's usual 1,024 are soon used up by folders and files of
    many sessions."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
