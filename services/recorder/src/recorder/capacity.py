"""How many segments a recorder may write at once."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

_FILES_PER_SEGMENT = 2
_OTHER_FILES = 64
_SEGMENT_BYTES = 1_100_000
"""Of memory, while it is open: HDF5 alone has half a megabyte of tables for each file."""
_OTHER_BYTES = 200_000_000
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def max_open_segments() -> int:
    """As many as this process may open files for, and has memory for.

    Files that are closed early are more and smaller; who has no memory left is killed.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    by_files = (files - _OTHER_FILES) // _FILES_PER_SEGMENT
    by_memory = (_memory_bytes() - _OTHER_BYTES) // _SEGMENT_BYTES
    return max(1, min(by_files, by_memory))


def _memory_bytes() -> int:
    """The container's limit; without one ("max") what the machine has."""
    with suppress(OSError, ValueError):
        return int(_CONTAINER_LIMIT.read_text())
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
