"""The bus on Redis streams (Redis 7+ or Valkey 8+)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from redis import exceptions as redis_errors

from sgaps.bus.base import Bus, Entry, Group, Operation, PendingEntry, next_id
from sgaps.bus.connection import Pool, connect
from sgaps.bus.redis_commands import FIELD, RENEW, Command, command_of, millis
from sgaps.bus.redis_failures import LOST, as_bus_errors, unless_group_lost
from sgaps.bus.redis_trips import Lines, Writer
from sgaps.settings import BusSettings

GROUP_LOST_PAUSE_SECS = 0.2
"""A flush loses the group under every reader at once; the pause keeps that from a busy loop."""
SCAN_COUNT = 5000
"""Keys that one command walks over: about a millisecond of the broker."""


class RedisBus(Bus):
    """Blocking reads have their own connections; what is rarely asked goes by redis-py's client."""

    def __init__(self, settings: BusSettings) -> None:
        self._timeout_secs = settings.socket_timeout_secs
        self._commands = connect(settings, socket_timeout_secs=self._timeout_secs)
        self._pools = [connect(settings, socket_timeout_secs=None) for _ in range(3)]
        # Looks apart from reads: however many look at sessions, a group's member has a connection.
        self._trips, self._reads, self._looks = self._lines = [
            Lines(pool.connection_pool, self._leave_connections) for pool in self._pools
        ]
        self._writer = Writer(self._trips, timeout_secs=self._timeout_secs)

    async def write(self, *operations: Operation) -> None:
        await self._writer.write(command_of(operations))

    async def acknowledge(self, stream: str, group: str, entry_ids: Sequence[str]) -> set[str]:
        with as_bus_errors():
            said = await self._asked(*(("XACK", stream, group, one) for one in entry_ids))
        return {entry_id for entry_id, was_there in zip(entry_ids, said, strict=True) if was_there}

    async def ensure_group(self, stream: str, group: str) -> None:
        async with self._by_client():
            try:
                await self._commands.xgroup_create(stream, group, id="0", mkstream=True)
            except redis_errors.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(
        self, stream: str, group: str, consumer: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        with as_bus_errors(), unless_group_lost():
            block = _blocking(block_secs)
            asked: Command = ("XREADGROUP", "GROUP", group, consumer, "COUNT", count, *block)
            return await self._read(self._reads, (*asked, "STREAMS", stream, ">"), block_secs)
        await self.ensure_group(stream, group)
        await asyncio.sleep(GROUP_LOST_PAUSE_SECS)
        return []

    async def tail(
        self, stream: str, after_id: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        with as_bus_errors():
            asked: Command = ("XREAD", "COUNT", count, *_blocking(block_secs))
            return await self._read(self._looks, (*asked, "STREAMS", stream, after_id), block_secs)

    async def last_id(self, stream: str) -> str:
        async with self._by_client():
            newest = await self._commands.xrevrange(stream, count=1)
        return _text(newest[0][0]) if newest else self.START

    async def pending(
        self,
        stream: str,
        group: str,
        *,
        count: int,
        min_idle_secs: float,
        consumer: str | None = None,
    ) -> list[PendingEntry]:
        async with self._by_client():
            with unless_group_lost():
                rows: Any = await self._commands.xpending_range(
                    stream,
                    group,
                    min="-",
                    max="+",
                    count=count,
                    idle=millis(min_idle_secs),
                    consumername=consumer,
                )
                return list(map(_pending_entry, rows))
        return []

    async def claim(
        self, stream: str, group: str, consumer: str, entry_id: str, *, min_idle_secs: float
    ) -> Entry | None:
        with as_bus_errors():
            (claimed,) = await self._asked(
                ("XCLAIM", stream, group, consumer, millis(min_idle_secs), entry_id)
            )
        return _entry(claimed[0]) if claimed else None

    async def renew(self, stream: str, group: str, consumer: str, entry_ids: Sequence[str]) -> None:
        with as_bus_errors(), unless_group_lost():
            await self._asked(("EVAL", RENEW, 1, stream, group, consumer, *entry_ids))

    async def entry(self, stream: str, entry_id: str) -> Entry | None:
        with as_bus_errors():
            (found,) = await self._asked(("XRANGE", stream, entry_id, entry_id, "COUNT", 1))
        return _entry(found[0]) if found else None

    async def groups(self, stream: str) -> dict[str, Group]:
        async with self._by_client():
            with unless_group_lost():
                rows: Any = await self._commands.xinfo_groups(stream)
                return {_text(row["name"]): _group(row) for row in rows}
        return {}

    async def floor(self, stream: str, group: str) -> str:
        # In this order: what is delivered meanwhile is pending by then, so the floor is no higher.
        delivered = await self.delivered(stream, group)
        async with self._by_client():
            with unless_group_lost():
                summary = await self._commands.xpending(stream, group)
                if summary["pending"]:
                    return _text(summary["min"])
                return next_id(delivered)
        return self.START

    async def length(self, stream: str) -> int:
        async with self._by_client():
            return int(await self._commands.xlen(stream))

    async def trim(self, stream: str, min_id: str) -> int:
        async with self._by_client():
            return int(await self._commands.xtrim(stream, minid=min_id, approximate=False))

    async def lists(self, keys: Sequence[str], *, count: int) -> list[list[bytes]]:
        with as_bus_errors():
            return await self._asked(*(("LRANGE", key, 0, count - 1) for key in keys))

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        with as_bus_errors():
            answers = await self._asked(*(("HGETALL", key) for key in keys))
        return [{name.decode(): value for name, value in _pairs(answer)} for answer in answers]

    async def keys(self, prefix: str) -> list[str]:
        async with self._by_client():
            scan = self._commands.scan_iter(match=f"{prefix}*", count=SCAN_COUNT)
            return sorted({_text(key) async for key in scan})  # a scan may repeat itself

    async def now_secs(self) -> float:
        async with self._by_client():
            secs, micros = await self._commands.time()
        return float(secs) + float(micros) / 1e6

    async def ping(self) -> None:
        async with self._by_client():
            await self._commands.ping()

    async def close(self) -> None:
        for client in (self._commands, *self._pools):
            await client.aclose()

    @asynccontextmanager
    async def _by_client(self) -> AsyncIterator[None]:
        """What is asked by redis-py's client, which stays where it is refused."""
        with as_bus_errors():
            try:
                yield
            except (redis_errors.ReadOnlyError, *LOST):
                await self._leave_connections()
                raise

    async def _leave_connections(self) -> None:
        """One died in silence, as the others may have; or the broker was demoted: such a one keeps
        its connections, refuses what is written, and lags."""
        for lines in self._lines:
            await lines.leave()
        pool = cast("Pool", self._commands.connection_pool)
        # Those in use are left when they come back.
        await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        await pool.leave_idle()

    async def _read(self, lines: Lines, command: Command, block_secs: float) -> list[Entry]:
        # A blocking read may legally be silent for block_secs on top of a command's time.
        (reply,) = await lines.replies([command], timeout_secs=self._timeout_secs + block_secs)
        return [_entry(row) for _, rows in reply or [] for row in rows]

    async def _asked(self, *commands: Command) -> list[Any]:
        return await self._trips.replies(commands, timeout_secs=self._timeout_secs)


def _text(value: Any) -> str:  # noqa: ANN401 - redis-py does not type replies
    return value.decode() if isinstance(value, bytes) else str(value)


def _group(row: Any) -> Group:  # noqa: ANN401 - redis-py does not type replies
    return Group(delivered_id=_text(row["last-delivered-id"]), pending=int(row["pending"]))


def _pending_entry(row: Any) -> PendingEntry:  # noqa: ANN401 - redis-py does not type replies
    return PendingEntry(
        entry_id=row["message_id"].decode(),
        consumer=row["consumer"].decode(),
        idle_secs=row["time_since_delivered"] / 1000,
        deliveries=row["times_delivered"],
    )


def _entry(row: Any) -> Entry:  # noqa: ANN401 - as the broker sends it
    entry_id, fields = row
    data = next((value for name, value in _pairs(fields) if name == FIELD), b"")
    return Entry(entry_id=entry_id.decode(), data=data)


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """A map as the broker sends it: name, value, name, value."""
    return zip(flat[::2], flat[1::2], strict=True)


def _blocking(secs: float) -> Command:
    return ("BLOCK", millis(secs)) if secs else ()
