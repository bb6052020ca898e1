"""How entries are acknowledged: what is written with them, and what a full broker still owes.

An acknowledgement needs no memory, so a full broker takes it alone; the counts and marks that go
with it are kept until there is room. An entry that is given up goes to `sgaps:dead`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from sgaps.bus.base import Ack, Bus, Count, Effect, Entry, Publish, Put
from sgaps.bus.ledger import owed
from sgaps.bus.owing import Owing
from sgaps.errors import BusError, BusFull
from sgaps.messages import DeadLetter
from sgaps.probe import is_probe_entry

log = logging.getLogger(__name__)

MAX_DEAD_LETTERS = 10_000
MAX_DEAD_BYTES = 128 * 2**20
"""Of letters as large as the newest, true frames in them: they may not fill a broker for ever."""
SETTLE_SECS = 3.0
"""Of the eight that a service has to end in."""
SETTLE_RETRY_SECS = 0.5


class Acknowledger:
    """Of one group of one stream."""

    def __init__(self, bus: Bus, stream: str, group: str) -> None:
        self._bus = bus
        self._stream = stream
        self._group = group
        self._owing = Owing(bus)
        self._unmarked: dict[str, Put] = {}
        """The newest marks that it did not take, by their key."""

    async def write(self, effects: Mapping[str, Sequence[Effect]], marks: Sequence[Put]) -> None:
        """Acknowledge entries, each with its effects. Raises BusError."""
        newest = self._unmarked | {mark.key: mark for mark in marks}
        if not self._owing.has_begun(self._stream, self._group, effects):
            try:
                await self._bus.write(*newest.values(), *self._acks(effects))
            except BusFull:
                if not effects:
                    raise
            else:
                self._unmarked = {}
                return
        # An acknowledgement alone needs no memory, and frees some: now the stream is trimmed.
        debts = {entry_id: owed(then) for entry_id, then in effects.items()}
        await self._owing.acknowledge(self._stream, self._group, debts)
        self._unmarked = newest

    async def settle_at_last(self) -> None:
        """Nobody else knows what is owed: a full broker gets a while to make room for it."""
        try:
            async with asyncio.timeout(SETTLE_SECS):
                while not await self.settle():
                    await asyncio.sleep(SETTLE_RETRY_SECS)
        except (BusError, TimeoutError) as error:
            why, debt = str(error) or "the broker is full", dict(self._owing.debt)
            log.error("%s: not booked, for %s: %s", self._group, why, debt)  # noqa: TRY400 - no bug

    async def settle(self) -> bool:
        """Write what a full broker did not take, though no entry may come any more.

        False where it is still full.
        """
        is_settled = await self._owing.settle(*self._unmarked.values())
        if is_settled:
            self._unmarked = {}
        return is_settled

    def _acks(self, effects: Mapping[str, Sequence[Effect]]) -> list[Ack]:
        """Entries of which the same is booked, or nothing, go together."""
        together: dict[tuple[Effect, ...], list[str]] = {}
        acks = []
        for entry_id, then in effects.items():
            if any(isinstance(effect, Publish) for effect in then):
                acks.append(self._ack([entry_id], then))
            else:
                together.setdefault(tuple(then), []).append(entry_id)
        return acks + [self._ack(ids, then) for then, ids in together.items()]

    def _ack(self, entry_ids: list[str], then: Sequence[Effect] = ()) -> Ack:
        return Ack(self._stream, self._group, entry_ids, then)

    async def bury(self, entry: Entry, deliveries: int, reason: str) -> bool:
        """Write it to the dead letters; False where a full broker took none, and it stays."""
        letter = DeadLetter(
            source_stream=self._stream,
            group=self._group,
            entry_id=entry.entry_id,
            deliveries=deliveries,
            reason=reason,
            data=entry.data,
        )
        kept = max(1, min(MAX_DEAD_LETTERS, MAX_DEAD_BYTES // len(entry.data or b" ")))
        last_rites: list[Effect] = [Publish(letter, kept)]
        if not is_probe_entry(entry.data):
            last_rites.append(Count(f"dead_{self._group}"))
        try:
            await self._bus.write(self._ack([entry.entry_id], last_rites))
        except BusFull as error:
            log.warning("%s: %s is buried later: %s", self._group, entry.entry_id, error)
            return False
        return True
