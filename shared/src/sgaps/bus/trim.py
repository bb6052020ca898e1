"""Trimming: nothing goes that a group still needs; `sgaps:frames` is the recorder's alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from sgaps.bus.base import Ack, Bus, Count, id_order, next_id
from sgaps.bus.owing import Owing
from sgaps.errors import BusError, BusFull, BusUnavailable
from sgaps.probe import is_probe_entry
from sgaps.settings import BusSettings

log = logging.getLogger(__name__)

TRIM_EVERY_SECS = 1.0
EXPIRED = "expired"
"""Ledger column of what a group could not keep up with; also the consumer that takes it out."""
EXPIRE_AT_ONCE = 32
"""They come with all that is in them, true frames too."""


async def trim_behind(bus: Bus, stream: str, group: str, stop: asyncio.Event) -> None:
    """Trim a stream that one group reads, until told to stop."""

    async def trim() -> None:
        await bus.trim(stream, await bus.floor(stream, group))

    await every_second(trim, stop)


class Trimmer:
    """Trims the streams whose entries may expire: taken out of a group that has no time for them,
    and booked as `expired`, when a full broker lets it.
    """

    def __init__(self, bus: Bus, settings: BusSettings) -> None:
        self._bus = bus
        self._settings = settings
        self._owing = Owing(bus)

    async def trim_recorded(self, stream: str, *, must: str, may: str) -> int:
        """Trim a stream behind its two groups; how many entries expired. Raises BusError.

        What group `must` still needs is never trimmed. What it has done, group `may` has time for
        until it is `max_backlog_secs` old, or the stream holds `max_backlog` entries.
        """
        await self._owing.settle()  # an entry in doubt must not be found, and booked, again
        done_by_must = await self._bus.floor(stream, must)
        too_old = min(done_by_must, await self._too_old(), key=id_order)
        expired = await self._expire_all(stream, may, before_id=too_old)
        # What both have done is no backlog.
        await self._trim_behind_both(stream, may, done_by_must)
        excess = await self._bus.length(stream) - self._settings.max_backlog
        while excess > 0:
            some = await self._expire(stream, may, before_id=done_by_must)
            if not some:
                break
            expired, excess = expired + some, excess - some
        await self._trim_behind_both(stream, may, done_by_must)
        await self._owing.settle()  # what was trimmed may have made the room
        return expired

    async def trim_waiting(self, stream: str, group: str) -> int:
        """Trim a stream behind its only group, whose members may all be dead; how many expired.

        What waits for them longer than `max_backlog_secs` does. Raises BusError.
        """
        await self._owing.settle()
        expired = await self._expire_all(stream, group, before_id=await self._too_old())
        if expired:
            await self._bus.trim(stream, await self._bus.floor(stream, group))
        await self._owing.settle()
        return expired

    async def _trim_behind_both(self, stream: str, may: str, done_by_must: str) -> None:
        floor = await self._bus.floor(stream, may)
        await self._bus.trim(stream, min(done_by_must, floor, key=id_order))

    async def _too_old(self) -> str:
        """Entries before this id waited too long."""
        now_secs = await self._bus.now_secs()
        return f"{max(0, int((now_secs - self._settings.max_backlog_secs) * 1000))}-0"

    async def _expire_all(self, stream: str, group: str, *, before_id: str) -> int:
        expired = 0
        while some := await self._expire(stream, group, before_id=before_id):
            expired += some
        return expired

    async def _expire(self, stream: str, group: str, *, before_id: str) -> int:
        """Take the oldest entries out of a group, as one of its members would; how many."""
        bus = self._bus
        rows = await bus.pending(
            stream, group, count=EXPIRE_AT_ONCE, min_idle_secs=self._settings.min_idle_secs
        )
        ids = [row.entry_id for row in rows if id_order(row.entry_id) < id_order(before_id)]
        found = [entry for i in ids if (entry := await bus.entry(stream, i)) is not None]
        delivered = await bus.delivered(stream, group)
        if id_order(next_id(delivered)) < id_order(before_id):
            # Looked at first: what is read is out of the members' reach.
            next_ones = await bus.tail(stream, delivered, count=EXPIRE_AT_ONCE, block_secs=0)
            count = sum(id_order(entry.entry_id) < id_order(before_id) for entry in next_ones)
            if count:
                # Its first member may never have come; a full broker refuses what is there already.
                with contextlib.suppress(BusFull):
                    await bus.ensure_group(stream, group)
                unread = await bus.read(stream, group, EXPIRED, count=count, block_secs=0)
                # What members took meanwhile brings younger ones, which they claim later.
                old = [entry for entry in unread if id_order(entry.entry_id) < id_order(before_id)]
                ids += [entry.entry_id for entry in old]
                found += old
        if not ids:
            return 0
        probes = {entry.entry_id for entry in found if is_probe_entry(entry.data)}
        frames = [entry_id for entry_id in ids if entry_id not in probes]
        counted = [Ack(stream, group, frames, [Count(EXPIRED)])] if frames else []
        try:
            await bus.write(*counted, *([Ack(stream, group, list(probes))] if probes else []))
        except BusFull:
            expired = Counter({EXPIRED: 1})
            debts = {one: Counter() if one in probes else expired for one in ids}
            await self._owing.acknowledge(stream, group, debts)
            await bus.trim(stream, min(before_id, await bus.floor(stream, group), key=id_order))
        return len(ids)


async def every_second(
    action: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    *,
    refused: Callable[[bool], None] = lambda _: None,
) -> None:
    """Do something again and again until told to stop; a missing broker is waited for.

    `refused` is told each time whether a broker that is there refuses it.
    """
    told = ""
    while not stop.is_set():
        try:
            await action()
        except (BusUnavailable, BusFull) as error:
            log.debug("housekeeping waits for the broker: %s", error)  # the consumer warns already
        except BusError as error:
            refused(True)
            if told != str(error):
                log.error("housekeeping cannot be done: %s", error)  # noqa: TRY400 - told once
            told = str(error)
        else:
            refused(False)
            told = ""
        try:
            async with asyncio.timeout(TRIM_EVERY_SECS):
                await stop.wait()
        except TimeoutError:
            continue
