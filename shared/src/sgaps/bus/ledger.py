"""The frame ledger: received = delivered + what was dropped, by reason + in flight.

Every count is written in the command that it counts. The recorder's process watches over it,
for there is one of them: a broker that lost its memory (FLUSHALL, a disk that was lost) takes the
ledger along. Probes (`sgaps.probe`) are in none of its columns: they are nobody's frames.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from sgaps.bus.base import LEDGER_KEY, LEDGER_MARK, Bus, Count, Effect, Publish, columns_of
from sgaps.messages import Message

log = logging.getLogger(__name__)

RECEIVED = "received"
DELIVERED = "delivered"
LOST_FLUSH = "lost_flush"
BROKER_FULL = "broker_full"
"""Frames whose answer a full broker did not take."""
# Where a frame's way to its coordinates can end. (What the recorder counts is another account.)
ENDS = frozenset(
    {
        DELIVERED,
        "superseded",
        "expired",
        "session_gone",
        "out_of_order",
        "client_slow",
        "undecodable",
        "dead_reconstructor",
        "dead_sampler",
        "dead_gateway",
        "lost_reconstructor",
        "lost_sampler",
        "lost_gateway",
        BROKER_FULL,
        LOST_FLUSH,
    }
)
COLUMNS = (RECEIVED, *sorted(ENDS), "dead_recorder", "lost_recorder")


def in_flight(counts: Mapping[str, int]) -> int:
    """Frames that were received and have not come to an end."""
    ended = sum(amount for name, amount in counts.items() if name in ENDS)
    return counts.get(RECEIVED, 0) - ended


def unless_probe(message: Message, column: str) -> list[Effect]:
    """What to book for a frame; nothing for a probe."""
    return [] if message.is_probe else [Count(column)]


def owed(effects: Sequence[Effect]) -> Counter[str]:
    """What is left to book of an entry whose effects were not written."""
    answers = [effect for effect in effects if isinstance(effect, Publish)]
    left = Counter({BROKER_FULL: int(any(not answer.message.is_probe for answer in answers))})
    for effect in effects:
        if isinstance(effect, Count):
            left[effect.name] += effect.amount
    return +left


class LedgerGuard:
    """Remembers the ledger, and books what a broker that lost its memory took along.

    All of it (FLUSHALL, a lost disk), or the last moments: a power cut, a replica that took over.
    What was received in the second before a look is not in it: it is missing from both sides.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seen: dict[str, int] = {}

    async def look(self) -> None:
        """Compare the ledger with the one of the last look. Raises BusError."""
        (fields,) = await self._bus.hashes([LEDGER_KEY])
        counts = columns_of(fields)
        if LEDGER_MARK not in fields:
            counts = await self._book(Counter(self._seen), Count(LEDGER_MARK, time.time_ns()))
        elif counts.get(RECEIVED, 0) < self._seen.get(RECEIVED, 0):
            missing = Counter(self._seen) - Counter(counts)
            # What is on its way again as before will be delivered, and counted, again.
            missing[DELIVERED] += min(0, in_flight(missing))
            counts = await self._book(missing)
        self._seen = counts

    async def _book(self, missing: Counter[str], *also: Count) -> dict[str, int]:
        """Write again what is missing, and what was on its way as lost; the ledger then."""
        lost = in_flight(missing)
        if missing:
            log.error("the broker lost its memory, and %d frames on their way with it", lost)
        missing[LOST_FLUSH] += lost
        before = [Count(name, amount) for name, amount in missing.items() if amount]
        await self._bus.write(*before, *also)
        return await self._bus.ledger()
