"""What a full broker acknowledged without booking it, and is booked when it has room."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping

from sgaps.bus.base import LEDGER_KEY, LEDGER_MARK, Bus, Count, Put
from sgaps.errors import BusFull

log = logging.getLogger(__name__)

Debt = Counter[str]
"""Columns of the ledger, and how much is to be added."""


class Owing:
    """Acknowledgements with which nothing is written, and what they leave to be booked.

    A debt belongs to the ledger that it arose in: where that is lost, whoever guards it books its
    frames as lost, for it takes them to be on their way.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.debt: Debt = Counter()
        self._owed_to: bytes | None = None
        """The mark of a ledger; None where nobody guards it yet."""
        self._unanswered: dict[tuple[str, str], Mapping[str, Debt]] = {}
        """Of a stream and group, entries of which the broker did not say whether it took them off:
        nobody else will come upon those that it did."""

    def has_begun(self, stream: str, group: str, entry_ids: Collection[str]) -> bool:
        """Whether some may be taken off already, so that nothing can hang on that any more."""
        return not self._unanswered.get((stream, group), {}).keys().isdisjoint(entry_ids)

    async def acknowledge(self, stream: str, group: str, debts: Mapping[str, Debt]) -> None:
        """Take entries off a group's list, and owe what belongs to each that nobody else took off.

        Raises BusError: then `settle` does it again.
        """
        await self._look_at_ledger()
        perhaps_done = self._unanswered.get((stream, group), {})
        asked = self._unanswered[stream, group] = {**perhaps_done, **debts}
        done = await self._bus.acknowledge(stream, group, list(asked))
        del self._unanswered[stream, group]
        for entry_id in done.union(perhaps_done):
            self.debt.update(asked[entry_id])

    async def settle(self, *marks: Put) -> bool:
        """Book what is owed, and write what else waits; False where the broker is still full.

        The counts hang on no acknowledgement: an entry that another consumer did meanwhile would
        take them along. So where the broker's answer is lost they are booked twice.
        """
        for stream, group in list(self._unanswered):
            await self.acknowledge(stream, group, {})
        if self.debt:
            await self._look_at_ledger()
        counts = [Count(name, amount) for name, amount in self.debt.items()]
        if marks or counts:
            try:
                await self._bus.write(*marks, *counts)
            except BusFull:
                return False
            self.debt.clear()
        return True

    async def _look_at_ledger(self) -> None:
        """Forget what is owed to one that was lost. Raises BusError."""
        (fields,) = await self._bus.hashes([LEDGER_KEY])
        mark = fields.get(LEDGER_MARK)
        if self.debt and self._owed_to is not None and mark != self._owed_to:
            log.warning("not booked, for the broker lost its ledger: %s", dict(self.debt))
            self.debt.clear()
        self._owed_to = mark
