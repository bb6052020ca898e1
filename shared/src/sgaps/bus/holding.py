"""What a consumer has in hand is kept from the others' claims while its handler works.

They claim what nobody touched for `min_idle_secs`, and a turn of large pictures may take longer. It
is renewed from the event loop that waits for the handler: a process that is dead or frozen, or
whose loop hangs, renews nothing. A handler that hangs in a thread keeps its entries for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence

from sgaps.bus.base import Bus
from sgaps.errors import BusError

RENEWALS_PER_IDLE = 4
STUCK_AFTER_SECS = 60.0
"""What takes longer hangs: liveness (`sgaps.service`) looks at it in the same way."""


class InHand:
    """Entries that a handler works on."""

    def __init__(
        self, bus: Bus, stream: str, group: str, consumer: str, *, min_idle_secs: float
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._every_secs = min_idle_secs / RENEWALS_PER_IDLE
        self._entry_ids: Sequence[str] = ()
        self._since_secs = 0.0

    @contextlib.contextmanager
    def held(self, entry_ids: Sequence[str]) -> Iterator[None]:
        """These, while the block runs."""
        self._entry_ids, self._since_secs = entry_ids, time.monotonic()
        try:
            yield
        finally:
            self._entry_ids = ()

    def begin_anew(self) -> None:
        """Another handler works on some of them now."""
        self._since_secs = time.monotonic()

    async def keep(self) -> None:
        """Renew what is held, until cancelled; not what is done sooner than that is needed."""
        while True:
            await asyncio.sleep(self._every_secs)
            held_secs = time.monotonic() - self._since_secs
            if self._entry_ids and self._every_secs <= held_secs < STUCK_AFTER_SECS:
                with contextlib.suppress(BusError):  # the consumer hears of it as well
                    await self._bus.renew(
                        self._stream, self._group, self._consumer, self._entry_ids
                    )
