"""Trimming: each stream has one owner, and nothing goes that a group still needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sgaps.bus.base import Ack, Bus, Count, id_order, next_id
from sgaps.errors import BusError, BusFull, BusUnavailable
from sgaps.probe import is_probe_entry
from sgaps.settings import BusSettings

log = logging.getLogger(__name__)

TRIM_EVERY_SECS = 1.0
EXPIRED = "expired"
"""Ledger column of what a group could not keep up with; also the consumer that takes it out."""
EXPIRE_AT_ONCE = 100


async def trim_behind(bus: Bus, stream: str, group: str, stop: asyncio.Event) -> None:
    """Trim a stream that one group reads, until told to stop."""

    async def trim() -> None:
        await bus.trim(stream, await bus.floor(stream, group))

    await every_second(trim, stop)


async def trim_recorded(
    bus: Bus, stream: str, *, must: str, may: str, settings: BusSettings
) -> None:
    """Trim a stream behind its two groups. Raises BusError.

    What group `must` still needs is never trimmed. What it has done, group `may` has time for
    until the stream holds `max_backlog` entries; then its oldest are booked as `expired`.
    """
    done_by_must = await bus.floor(stream, must)
    excess = await bus.length(stream) - settings.max_backlog
    while excess > 0:
        expired = await _expire(bus, stream, may, before_id=done_by_must, settings=settings)
        if not expired:
            break
        log.error("%s: %d frames expired before %s had time for them", stream, expired, may)
        excess -= expired
    await bus.trim(stream, min(done_by_must, await bus.floor(stream, may), key=id_order))


async def _expire(
    bus: Bus, stream: str, group: str, *, before_id: str, settings: BusSettings
) -> int:
    """Take the oldest entries out of a group, as one of its members would; how many."""
    rows = await bus.pending(
        stream, group, count=EXPIRE_AT_ONCE, min_idle_secs=settings.min_idle_secs
    )
    ids = [row.entry_id for row in rows if id_order(row.entry_id) < id_order(before_id)]
    found = [entry for i in ids if (entry := await bus.entry(stream, i)) is not None]
    if id_order(next_id(await bus.delivered(stream, group))) < id_order(before_id):
        unread = await bus.read(stream, group, EXPIRED, count=EXPIRE_AT_ONCE, block_secs=0)
        ids += [entry.entry_id for entry in unread]
        found += unread
    if not ids:
        return 0
    probes = {entry.entry_id for entry in found if is_probe_entry(entry.data)}
    frames = [entry_id for entry_id in ids if entry_id not in probes]
    counted = [Ack(stream, group, frames, [Count(EXPIRED)])] if frames else []
    try:
        await bus.write(*counted, *([Ack(stream, group, list(probes))] if probes else []))
    except BusFull:
        await bus.write(Ack(stream, group, ids))
        await bus.trim(stream, min(before_id, await bus.floor(stream, group), key=id_order))
        await bus.write(Count(EXPIRED, len(frames)))
    return len(ids)


async def every_second(action: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Do something again and again until told to stop; a missing broker is waited for."""
    refused = False
    while not stop.is_set():
        try:
            await action()
        except (BusUnavailable, BusFull) as error:
            log.debug("housekeeping waits for the broker: %s", error)  # the consumer warns already
        except BusError as error:
            if not refused:
                log.error("housekeeping cannot be done: %s", error)  # noqa: TRY400 - told once
            refused = True
        try:
            async with asyncio.timeout(TRIM_EVERY_SECS):
                await stop.wait()
        except TimeoutError:
            continue
