"""Trips to the broker: commands that are packed and sent together, and what it says to each.

By redis-py's connections, without its client: that sends each command in a task of its own, because
of its time-out, and its pipeline keeps books of retries and of what a connection was told, where
nothing here is retried. Both cost more than what is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from sgaps.bus.redis_commands import Command, with_script
from sgaps.bus.redis_failures import LOST, bus_error

TRIPS_AT_ONCE = 2
"""While the broker works on what came with one, the next is put together."""
FEW_WRITES = 4
"""So few are not worth two trips: one costs as much as what goes with it."""
WRITES_TOGETHER = 64
"""Of as many sessions; more would hold up the first for too long."""


class _Write(NamedTuple):
    """A command on its way."""

    command: Command
    done: asyncio.Future[None]
    asked_at_secs: float


class Lines:
    """Connections of a pool, kept open between trips by whoever alone draws on it.

    What redis-py does to lend one and to take it back costs as much as a command.
    """

    def __init__(self, pool: ConnectionPool, leave_all: Callable[[], Awaitable[None]]) -> None:
        """Whoever makes a trip minds the time: the pool's connections should have none.

        `leave_all` is called where a connection died, for what swallowed it swallowed the others
        too, and each would cost somebody his whole time; and where the broker takes no writes any
        more, as another one took over.
        """
        self._pool = pool
        self._leave_all = leave_all
        self._idle: list[AbstractConnection] = []
        self._left = 0
        """How often all connections were left."""
        self._wanted = 0
        """Who waits for the pool: what comes back must go there."""

    async def replies(self, commands: Sequence[Command], *, timeout_secs: float) -> list[Any]:
        """What the broker says to each. Raises RedisError or OSError, also where it refuses one."""
        said = await self.trip(commands, timeout_secs=timeout_secs)
        for reply in said:
            if isinstance(reply, redis_errors.ResponseError):
                raise reply
        return said

    async def trip(self, commands: Sequence[Command], *, timeout_secs: float) -> list[Any]:
        """The reply to each, which may be a ResponseError. Raises RedisError, OSError.

        The time is that of the whole trip.
        """
        left, connection = self._left, None
        try:
            async with asyncio.timeout(timeout_secs):
                connection = await self._taken()
                try:
                    return await self._said(connection, commands)
                except BaseException:  # what is still to come would be the next one's reply
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    if left != self._left:
                        await connection.disconnect(nowait=True)
                    await self._give_back(connection)
        except LOST as error:
            # One that was left already says nothing of those that came after it.
            if connection is not None and left == self._left:
                await self._leave_all()
            if isinstance(error, TimeoutError):
                raise redis_errors.TimeoutError(f"nothing in {timeout_secs:g} s") from None
            raise

    async def _said(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        await connection.send_packed_command(connection.pack_commands(commands))
        said = [await _reply(connection) for _ in commands]
        if any(isinstance(reply, redis_errors.ReadOnlyError) for reply in said):
            await self._leave_all()
        return said

    async def leave(self) -> None:
        """Go on by new connections, which find whoever has the broker's name by now."""
        self._left += 1
        for connection in self._idle:
            await connection.disconnect(nowait=True)

    async def _taken(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected and not await connection.can_read():
                return connection
            await self._pool.release(connection)  # it is not what it was
        self._wanted += 1
        try:
            return cast("AbstractConnection", await self._pool.get_connection())  # type: ignore[no-untyped-call]
        finally:
            self._wanted -= 1

    async def _give_back(self, connection: AbstractConnection) -> None:
        if connection.is_connected and not self._wanted:
            self._idle.append(connection)
        else:
            await self._pool.release(connection)


async def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - redis-py does not type it
    """The next one. An error is one too: those behind it belong to the other commands."""
    try:
        return await connection.read_response()
    except redis_errors.ResponseError as error:
        return error


class Writer:
    """Writes that come while others are on their way go together in the next trip to the broker.

    Each is one command of its own. A write alone waits for nothing; of several at once none is sure
    to be done before another, and one that was given up may be done after the next.
    """

    def __init__(self, lines: Lines, *, timeout_secs: float) -> None:
        """The time is that of a whole trip."""
        self._lines = lines
        self._timeout_secs = timeout_secs
        self._waiting: list[_Write] = []
        self._carriers: set[asyncio.Task[None]] = set()
        self._is_departing = False
        """Whether a carrier has yet to look at what waits."""

    async def write(self, command: Command) -> None:
        """Returns when the broker has done it; raises what became of it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(command, done, time.monotonic()))
        self._depart()
        await done

    def _depart(self) -> None:
        """Send a carrier for what waits, unless one is about to take it or all are on their way."""
        if self._waiting and not self._is_departing and len(self._carriers) < TRIPS_AT_ONCE:
            self._is_departing = True
            self._carriers.add(asyncio.create_task(self._carry()))

    async def _carry(self) -> None:
        """Trip after trip, until nothing waits."""
        self._is_departing = False
        try:
            while together := self._taken():
                self._depart()
                await self._deliver(together)
                await asyncio.sleep(0)  # those who were told may have more by now
        finally:
            self._carriers.remove(cast("asyncio.Task[None]", asyncio.current_task()))
            self._depart()

    async def _deliver(self, together: Sequence[_Write]) -> None:
        """Make the trip, and tell each writer what became of its write."""
        try:
            outcomes = await self._outcomes([write.command for write in together])
        except BaseException as error:  # a mistake of ours, or the end: nobody may wait for ever
            for write in together:
                _tell(write.done, error)
            raise
        for write, outcome in zip(together, outcomes, strict=True):
            _tell(write.done, outcome)

    def _taken(self) -> list[_Write]:
        """Half of what waits: the broker can begin with it while the other half is packed."""
        half = -(-len(self._waiting) // 2)
        count = min(max(half, FEW_WRITES), WRITES_TOGETHER)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _outcomes(self, commands: Sequence[Command]) -> list[Exception | None]:
        """What became of each. A broker that was started again has forgotten the script."""
        outcomes = await self._errors(commands)
        unknown = [
            n for n, error in enumerate(outcomes) if isinstance(error, redis_errors.NoScriptError)
        ]
        if unknown:
            again = await self._errors([with_script(commands[n]) for n in unknown])
            for n, outcome in zip(unknown, again, strict=True):
                outcomes[n] = outcome
        return outcomes

    async def _errors(self, commands: Sequence[Command]) -> list[Exception | None]:
        """What went wrong with each."""
        try:
            said = await self._lines.trip(commands, timeout_secs=self._timeout_secs)
        except (redis_errors.RedisError, OSError) as error:
            self._give_up(error)
            return [error for _ in commands]
        return [reply if isinstance(reply, Exception) else None for reply in said]

    def _give_up(self, error: Exception) -> None:
        """What waited for as long as a trip may take had no better luck than the one that failed.

        Else a broker that hangs would be told to a few at a time, trip after trip.
        """
        since_secs = time.monotonic() - self._timeout_secs
        late = [write for write in self._waiting if write.asked_at_secs <= since_secs]
        self._waiting = [write for write in self._waiting if write.asked_at_secs > since_secs]
        for write in late:
            _tell(write.done, error)


def _tell(done: asyncio.Future[None], error: BaseException | None) -> None:
    """What became of a write, unless its writer was cancelled meanwhile."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        done.cancel()
    elif isinstance(error, redis_errors.RedisError | OSError):
        told = bus_error(error)
        told.__cause__ = error
        done.set_exception(told)
    else:
        done.set_exception(error)
