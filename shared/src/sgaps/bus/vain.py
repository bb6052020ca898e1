"""Deliveries that no handler saw: the broker booked a claim, and its answer was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sgaps.bus.base import PendingEntry


class InVain:
    """What a member claimed in vain uses up none of an entry's deliveries.

    Else a broker that stalls could bury entries that nobody tried. It is known only to the process
    that claimed: who died may have died of the entry, so that all its deliveries count.
    """

    def __init__(self) -> None:
        self._unanswered: PendingEntry | None = None
        """As it was before the claim, of which nobody knows yet whether the broker booked it."""
        self._counts: Counter[str] = Counter()

    def unanswered(self, row: PendingEntry) -> None:
        """The claim of an entry may be booked or not."""
        self._unanswered = row

    def taken_off(self, own: Sequence[PendingEntry]) -> list[PendingEntry]:
        """The member's own entries, with the deliveries that may have come to a handler."""
        return [replace(row, deliveries=row.deliveries - self._of(row)) for row in own]

    def _of(self, row: PendingEntry) -> int:
        lost, known = self._unanswered, self._counts[row.entry_id]
        if lost and lost.entry_id == row.entry_id:
            self._unanswered = None
            # Only a claim of this very member makes an entry its own, with one delivery more.
            if row.deliveries - known == lost.deliveries + 1:
                self._counts[row.entry_id] += 1
        return self._counts[row.entry_id]

    def forget(self) -> None:
        """All that was in vain has been tried."""
        self._unanswered = None
        self._counts.clear()
