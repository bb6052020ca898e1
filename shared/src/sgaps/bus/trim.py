"""Trimming: each stream has one owner, and nothing goes that a group still needs."""

from __future__ import annotations

import asyncio
import contextlib
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
EXPIRE_AT_ONCE = 32
"""They come with all that is in them, true frames too."""


async def trim_behind(bus: Bus, stream: str, group: str, stop: asyncio.Event) -> None:
    """Trim a stream that one group reads, until told to stop."""

    async def trim() -> None:
        await bus.trim(stream, await bus.floor(stream, group))

    await every_second(trim, stop)


async def trim_recorded(
    bus: Bus, stream: str, *, must: str, may: str, settings: BusSettings
) -> int:
    """Trim a stream behind its two groups; how many frames expired. Raises BusError.

    What group `must` still needs is never trimmed. What it has done, group `may` has time for until
    it is `max_backlog_secs` old, or the stream holds `max_backlog` entries; then it is booked as
    `expired`.
    """
    done_by_must = await bus.floor(stream, must)
    too_old = min(done_by_must, await _too_old(bus, settings), key=id_order)
    expired = await _expire_all(bus, stream, may, before_id=too_old, settings=settings)
    # What both have done is no backlog.
    await _trim_behind_both(bus, stream, may, done_by_must)
    excess = await bus.length(stream) - settings.max_backlog
    while excess > 0:
        some = await _expire(bus, stream, may, before_id=done_by_must, settings=settings)
        if not some:
            break
        expired, excess = expired + some, excess - some
    await _trim_behind_both(bus, stream, may, done_by_must)
    return expired


async def _trim_behind_both(bus: Bus, stream: str, may: str, done_by_must: str) -> None:
    await bus.trim(stream, min(done_by_must, await bus.floor(stream, may), key=id_order))


async def trim_waiting(bus: Bus, stream: str, group: str, settings: BusSettings) -> int:
    """Trim a stream behind its only group, whose members may all be dead; how many frames expired.

    What waits for them longer than `max_backlog_secs` is booked as `expired`. Raises BusError.
    """
    too_old = await _too_old(bus, settings)
    expired = await _expire_all(bus, stream, group, before_id=too_old, settings=settings)
    if expired:
        await bus.trim(stream, await bus.floor(stream, group))
    return expired


async def _too_old(bus: Bus, settings: BusSettings) -> str:
    """Entries before this id waited too long."""
    return f"{max(0, int((await bus.now_secs() - settings.max_backlog_secs) * 1000))}-0"


async def _expire_all(
    bus: Bus, stream: str, group: str, *, before_id: str, settings: BusSettings
) -> int:
    expired = 0
    while some := await _expire(bus, stream, group, before_id=before_id, settings=settings):
        expired += some
    return expired


async def _expire(
    bus: Bus, stream: str, group: str, *, before_id: str, settings: BusSettings
) -> int:
    """Take the oldest entries out of a group, as one of its members would; how many."""
    rows = await bus.pending(
        stream, group, count=EXPIRE_AT_ONCE, min_idle_secs=settings.min_idle_secs
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
