"""How many entries a member reads at once."""

from __future__ import annotations

from collections.abc import Sequence

from sgaps.bus.base import Entry

FIRST_READ = 64
"""Entries, before it is known how large a backlog's are; then twice as many as were there."""
MAX_READ_BYTES = 32 * 2**20
"""Of all that is read at once: true frames of large pictures have megabytes each."""
FORGET_HALF_AFTER = 256
"""Entries: a large one that came alone does not keep the reads small for ever."""


class ReadSize:
    """As many as are sure to fit: all as large as the largest of late."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._largest_bytes = 1.0
        """Of an entry of late: the longer ago, the less of it is left."""
        self.entries = min(FIRST_READ, most)

    def learn(self, read: Sequence[Entry]) -> None:
        """What came, and was no more than was asked for."""
        left_bytes = self._largest_bytes * 0.5 ** (len(read) / FORGET_HALF_AFTER)
        self._largest_bytes = max(1.0, left_bytes, *(len(entry.data) for entry in read))
        fitting = int(MAX_READ_BYTES / self._largest_bytes)
        growing = max(FIRST_READ, 2 * len(read))
        self.entries = max(1, min(fitting, growing, self._most))
