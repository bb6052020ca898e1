"""The bus on Redis streams (Redis 7+ or Valkey 8+)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from sgaps.bus.base import Bus, Entry, Group, Operation, PendingEntry, next_id
from sgaps.bus.connection import connect
from sgaps.bus.redis_commands import FIELD, Command, command_of, millis, with_script
from sgaps.errors import BusError, BusFull, BusRefused, BusUnavailable
from sgaps.settings import BusSettings

GROUP_LOST_PAUSE_SECS = 0.2
"""A flush loses the group under every reader at once; the pause keeps that from a busy loop."""
SCAN_COUNT = 500
TRIPS_AT_ONCE = 2
"""While the broker works on what came with one, the next is put together."""
FEW_WRITES = 4
"""So few are not worth two trips: one costs as much as what goes with it."""
WRITES_TOGETHER = 64
"""Of as many sessions; more would hold up the first for too long."""
REFUSED_CURE = "(bus.username, bus.password_file; `sgaps acl` writes users with their rights)"

_UNAVAILABLE = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    OSError,
)
_REFUSED = (redis_errors.AuthenticationError, redis_errors.NoPermissionError)
_GROUP_LOST = ("NOGROUP", "UNBLOCKED", "no such key")
_DISK_FULL = "MISCONF"


def _bus_error(error: Exception) -> BusError:
    """What an error of the client library means to ours."""
    if isinstance(error, redis_errors.OutOfMemoryError):
        return BusFull(f"the broker is out of memory: {error}")
    if isinstance(error, _REFUSED):
        return BusRefused(f"the broker refuses this user: {error} {REFUSED_CURE}")
    if isinstance(error, _UNAVAILABLE):
        return BusUnavailable(f"no answer from the broker: {error}")
    if str(error).startswith(_DISK_FULL):
        return BusFull(f"the broker cannot write to its disk: {error}")
    return BusError(f"the broker refuses a command: {error}")


@contextmanager
def _as_bus_errors() -> Iterator[None]:
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        raise _bus_error(error) from error


@contextmanager
def _unless_group_lost() -> Iterator[None]:
    """Goes on behind the block where the stream or the group has vanished."""
    try:
        yield
    except redis_errors.ResponseError as error:
        if not str(error).startswith(_GROUP_LOST):
            raise


class RedisBus(Bus):
    """Commands share a pool; blocking reads have connections of their own."""

    def __init__(self, settings: BusSettings) -> None:
        self._commands = connect(settings, socket_timeout_secs=settings.socket_timeout_secs)
        self._writes = connect(settings, socket_timeout_secs=None)
        self._writer = _Writer(
            self._writes.connection_pool, timeout_secs=settings.socket_timeout_secs
        )
        # A blocking read may legally be silent for block_secs on top of a command's time.
        self._reads = connect(
            settings, socket_timeout_secs=settings.socket_timeout_secs + settings.block_secs
        )

    async def write(self, *operations: Operation) -> None:
        await self._writer.write(command_of(operations))

    async def ensure_group(self, stream: str, group: str) -> None:
        with _as_bus_errors():
            try:
                await self._commands.xgroup_create(stream, group, id="0", mkstream=True)
            except redis_errors.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(
        self, stream: str, group: str, consumer: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        with _as_bus_errors(), _unless_group_lost():
            return _entries_of(
                await self._reads.xreadgroup(
                    group, consumer, {stream: ">"}, count=count, block=millis(block_secs) or None
                )
            )
        await self.ensure_group(stream, group)
        await asyncio.sleep(GROUP_LOST_PAUSE_SECS)
        return []

    async def tail(
        self, stream: str, after_id: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        with _as_bus_errors():
            reply = await self._reads.xread(
                {stream: after_id}, count=count, block=millis(block_secs) or None
            )
        return _entries_of(reply)

    async def last_id(self, stream: str) -> str:
        with _as_bus_errors():
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
        with _as_bus_errors(), _unless_group_lost():
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
        with _as_bus_errors():
            claimed = await self._commands.xclaim(
                stream, group, consumer, millis(min_idle_secs), [entry_id]
            )
        return _entry(claimed[0]) if claimed else None

    async def entry(self, stream: str, entry_id: str) -> Entry | None:
        with _as_bus_errors():
            found: Any = await self._commands.xrange(stream, entry_id, entry_id, count=1)
        return _entry(found[0]) if found else None

    async def groups(self, stream: str) -> dict[str, Group]:
        with _as_bus_errors(), _unless_group_lost():
            rows: Any = await self._commands.xinfo_groups(stream)
            return {_text(row["name"]): _group(row) for row in rows}
        return {}

    async def floor(self, stream: str, group: str) -> str:
        # In this order: what is delivered meanwhile is pending by then, so the floor is no higher.
        delivered = await self.delivered(stream, group)
        with _as_bus_errors(), _unless_group_lost():
            summary = await self._commands.xpending(stream, group)
            if summary["pending"]:
                return _text(summary["min"])
            return next_id(delivered)
        return self.START

    async def length(self, stream: str) -> int:
        with _as_bus_errors():
            return int(await self._commands.xlen(stream))

    async def trim(self, stream: str, min_id: str) -> int:
        with _as_bus_errors():
            return int(await self._commands.xtrim(stream, minid=min_id, approximate=False))

    async def lists_and_hashes(
        self, lists: Sequence[str], hashes: Sequence[str], *, count: int
    ) -> tuple[list[list[bytes]], list[dict[str, bytes]]]:
        with _as_bus_errors():
            async with self._commands.pipeline(transaction=False) as pipe:
                for key in lists:
                    pipe.lrange(key, 0, count - 1)
                for key in hashes:
                    pipe.hgetall(key)
                replies = await pipe.execute()
        return (
            [list(reply) for reply in replies[: len(lists)]],
            [
                {name.decode(): value for name, value in reply.items()}
                for reply in replies[len(lists) :]
            ],
        )

    async def keys(self, prefix: str) -> list[str]:
        with _as_bus_errors():
            scan = self._commands.scan_iter(match=f"{prefix}*", count=SCAN_COUNT)
            return sorted([_text(key) async for key in scan])

    async def now_secs(self) -> float:
        with _as_bus_errors():
            secs, micros = await self._commands.time()
        return float(secs) + float(micros) / 1e6

    async def ping(self) -> None:
        with _as_bus_errors():
            await self._commands.ping()

    async def close(self) -> None:
        for client in (self._commands, self._writes, self._reads):
            await client.aclose()


class _Writer:
    """Writes that come while others are on their way go together in the next trip to the broker.

    Each is one command of its own. A write alone waits for nothing; of several at once none is sure
    to be done before another.
    """

    def __init__(self, pool: ConnectionPool, *, timeout_secs: float) -> None:
        """The time is that of a whole trip: the pool's connections should have none."""
        self._pool = pool
        self._timeout_secs = timeout_secs
        self._waiting: list[tuple[Command, asyncio.Future[None]]] = []
        self._carriers: set[asyncio.Task[None]] = set()
        self._is_departing = False
        """Whether a carrier has yet to look at what waits."""

    async def write(self, command: Command) -> None:
        """Returns when the broker has done it; raises what became of it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, done))
        self._depart()
        await done

    def _depart(self) -> None:
        """Send a carrier for what waits, unless one is about to take it or all are on their way."""
        if self._waiting and not self._is_departing and len(self._carriers) < TRIPS_AT_ONCE:
            self._is_departing = True
            self._carriers.add(asyncio.create_task(self._carry()))

    async def _carry(self) -> None:
        """Trip after trip by one connection, until nothing waits."""
        self._is_departing = False
        line = _Line(self._pool)
        try:
            while together := self._taken():
                self._depart()
                outcomes = await self._outcomes(line, [command for command, _ in together])
                for (_, done), error in zip(together, outcomes, strict=True):
                    if done.done():  # its writer was cancelled meanwhile
                        continue
                    if error is None:
                        done.set_result(None)
                    else:
                        done.set_exception(_bus_error(error))
                await asyncio.sleep(0)  # those who were told may have more by now
        finally:
            await line.close()
            self._carriers.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    def _taken(self) -> list[tuple[Command, asyncio.Future[None]]]:
        """Half of what waits: the broker can begin with it while the other half is packed."""
        half = -(-len(self._waiting) // 2)
        count = min(max(half, FEW_WRITES), WRITES_TOGETHER)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _outcomes(self, line: _Line, commands: Sequence[Command]) -> list[Exception | None]:
        """What became of each. A broker that was started again has forgotten the script."""
        outcomes = await self._trip(line, commands)
        unknown = [
            n for n, error in enumerate(outcomes) if isinstance(error, redis_errors.NoScriptError)
        ]
        if unknown:
            again = await self._trip(line, [with_script(commands[n]) for n in unknown])
            for n, outcome in zip(unknown, again, strict=True):
                outcomes[n] = outcome
        return outcomes

    async def _trip(self, line: _Line, commands: Sequence[Command]) -> list[Exception | None]:
        """What became of each.

        Without the client's pipeline, which costs more than what it sends: it keeps books of
        retries and of what a connection was told, and nothing here is retried.
        """
        try:
            async with asyncio.timeout(self._timeout_secs):
                connection = await line.connection()
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await _error(connection) for _ in commands]
        except TimeoutError:
            late = redis_errors.TimeoutError(f"{self._timeout_secs:g} s are over")
            return [late for _ in commands]
        except (redis_errors.RedisError, OSError) as error:
            return [error for _ in commands]


class _Line:
    """A connection of the pool for trips that follow one another; another one where it broke."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._connection: AbstractConnection | None = None

    async def connection(self) -> AbstractConnection:
        if self._connection is None or not self._connection.is_connected:
            await self.close()
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        return self._connection

    async def close(self) -> None:
        """Give it back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool.release(connection)


async def _error(connection: AbstractConnection) -> Exception | None:
    """What the broker says against a command, in its next reply."""
    try:
        await connection.read_response()
    except redis_errors.ResponseError as error:
        return error
    return None


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


def _entry(row: Any) -> Entry:  # noqa: ANN401 - redis-py does not type replies
    entry_id, fields = row
    return Entry(entry_id=entry_id.decode(), data=fields.get(FIELD, b""))


def _entries_of(reply: Any) -> list[Entry]:  # noqa: ANN401 - redis-py does not type replies
    return [_entry(row) for _, rows in reply or [] for row in rows]
