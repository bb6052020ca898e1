"""The frame ledger: received = delivered + what was dropped, by reason + in flight.

Every count is written in the transaction that it counts. The recorder's process watches over it,
for there is one of them: a broker that lost its memory (FLUSHALL, a disk that was lost) takes the
ledger along.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sgaps.bus.base import Bus, Count
from sgaps.bus.consumer import BROKER_FULL

log = logging.getLogger(__name__)

RECEIVED = "received"
LOST_FLUSH = "lost_flush"
# Where a frame's way to its coordinates can end. (What the recorder counts is another account.)
ENDS = frozenset(
    {
        "delivered",
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


def in_flight(counts: Mapping[str, int]) -> int:
    """Frames that were received and have not come to an end."""
    ended = sum(amount for name, amount in counts.items() if name in ENDS)
    return counts.get(RECEIVED, 0) - ended


class LedgerGuard:
    """Remembers the ledger, and books what a broker that lost its memory took along.

    What was received in the second before is not in it: it is missing from both sides.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seen: dict[str, int] = {}

    async def look(self) -> None:
        """Compare the ledger with the one of the last look. Raises BusError."""
        counts = await self._bus.ledger()
        if counts.get(RECEIVED, 0) < self._seen.get(RECEIVED, 0):
            lost = in_flight(self._seen)
            log.error("the broker lost its memory, and %d frames on their way with it", lost)
            before = [Count(name, amount) for name, amount in self._seen.items()]
            await self._bus.write(*before, Count(LOST_FLUSH, lost))
            counts = await self._bus.ledger()
        self._seen = counts
