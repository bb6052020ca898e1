"""Trimming: each stream has one owner, and nothing goes that a group still needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sgaps.bus.base import Bus, Count, id_order
from sgaps.errors import BusError

log = logging.getLogger(__name__)

TRIM_EVERY_SECS = 1.0


async def trim_behind(bus: Bus, stream: str, group: str, stop: asyncio.Event) -> None:
    """Trim a stream that one group reads, until told to stop."""

    async def trim() -> None:
        await bus.trim(stream, await bus.floor(stream, group))

    await _every_second(trim, stop)


async def trim_recorded(
    bus: Bus, stream: str, *, must: str, may: str, max_backlog: int, stop: asyncio.Event
) -> None:
    """Trim a stream behind its two groups, until told to stop.

    What group `must` still needs is never trimmed. Group `may` is waited for up to `max_backlog`
    entries; what goes unread by it then is booked as `expired`.
    """

    async def trim() -> None:
        must_floor, may_floor = await bus.floor(stream, must), await bus.floor(stream, may)
        await bus.trim(stream, min(must_floor, may_floor, key=id_order))
        if await bus.length(stream) > max_backlog and id_order(may_floor) < id_order(must_floor):
            expired = await bus.trim(stream, must_floor)
            log.error("%s: %d frames expired unread by %s", stream, expired, may)
            await bus.write(Count("expired", expired))

    await _every_second(trim, stop)


async def _every_second(action: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await action()
        except BusError as error:
            log.debug("trimming waits for the broker: %s", error)  # the consumer warns already
        try:
            async with asyncio.timeout(TRIM_EVERY_SECS):
                await stop.wait()
        except TimeoutError:
            continue
