"""The bus in this process's memory: for tests and for one-process experiments.

It passes the same contract suite as the real one, and like it stores encoded bytes.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sgaps.bus.base import (
    LEDGER_KEY,
    Ack,
    Bus,
    Count,
    Entry,
    Group,
    Operation,
    PendingEntry,
    Publish,
    Push,
    Put,
    id_order,
    next_id,
)


@dataclass
class _Delivered:
    consumer: str
    at_secs: float
    deliveries: int = 1


@dataclass
class _Group:
    last_delivered: str = Bus.START
    pending: dict[str, _Delivered] = field(default_factory=dict)


@dataclass
class _Stream:
    entries: list[Entry] = field(default_factory=list)
    groups: dict[str, _Group] = field(default_factory=dict)
    last_id: str = Bus.START

    def after(self, entry_id: str, count: int) -> list[Entry]:
        start = bisect_left(self.entries, id_order(next_id(entry_id)), key=_order)
        return self.entries[start : start + count]


def _order(entry: Entry) -> tuple[int, int]:
    return id_order(entry.entry_id)


class MemoryBus(Bus):
    """One event loop, no durability, the semantics of the Redis bus."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = defaultdict(_Stream)
        self._hashes: dict[str, dict[str, bytes]] = {}
        self._lists: dict[str, list[bytes]] = {}
        self._expires_at_secs: dict[str, float] = {}
        self._published = asyncio.Condition()

    async def write(self, *operations: Operation) -> None:
        async with self._published:
            for operation in operations:
                self._apply(operation)
            self._published.notify_all()

    def _apply(self, operation: Operation) -> None:
        match operation:
            case Publish(message, max_entries, ttl_secs):
                self._expire_now(message.stream)
                self._append(message.stream, message.encode(), max_entries)
                if ttl_secs is not None:
                    self._expires_at_secs[message.stream] = time.monotonic() + ttl_secs
            case Ack(stream, group, entry_ids, then):
                pending = self._streams[stream].groups.setdefault(group, _Group()).pending
                for entry_id in entry_ids:
                    if pending.pop(entry_id, None):
                        for effect in then:
                            self._apply(effect)
            case Put(key, fields, ttl_secs, rising):
                self._expire_now(key)
                if fields or key in self._hashes:
                    there = self._hashes.setdefault(key, {})
                    if not rising or int(there.get(rising, -1)) <= int(fields[rising]):
                        there.update(fields)
                    self._expires_at_secs[key] = time.monotonic() + ttl_secs
            case Push(key, value, keep, ttl_secs):
                self._expire_now(key)
                self._lists[key] = [value, *self._lists.get(key, [])][:keep]
                self._expires_at_secs[key] = time.monotonic() + ttl_secs
            case Count(name, amount):
                ledger = self._hashes.setdefault(LEDGER_KEY, {})
                ledger[name] = b"%d" % (int(ledger.get(name, 0)) + amount)

    def _append(self, name: str, data: bytes, max_entries: int | None) -> None:
        stream = self._streams[name]
        millis = f"{int(time.time() * 1000)}-0"
        entry_id = max(millis, next_id(stream.last_id), key=id_order)
        stream.entries.append(Entry(entry_id=entry_id, data=data))
        stream.last_id = entry_id
        if max_entries is not None:
            del stream.entries[:-max_entries]

    def _expire_now(self, key: str) -> None:
        if self._expires_at_secs.get(key, float("inf")) <= time.monotonic():
            self._expires_at_secs.pop(key)
            self._hashes.pop(key, None)
            self._lists.pop(key, None)
            self._streams.pop(key, None)

    async def acknowledge(self, stream: str, group: str, entry_ids: Sequence[str]) -> set[str]:
        pending = self._streams[stream].groups.setdefault(group, _Group()).pending
        return {entry_id for entry_id in entry_ids if pending.pop(entry_id, None)}

    async def ensure_group(self, stream: str, group: str) -> None:
        self._streams[stream].groups.setdefault(group, _Group())

    async def read(
        self, stream: str, group: str, consumer: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        await self._wait_for(lambda: self._new_for(stream, group, 1), block_secs)
        fresh = self._new_for(stream, group, count)
        state = self._streams[stream].groups[group]
        for entry in fresh:
            state.last_delivered = entry.entry_id
            state.pending[entry.entry_id] = _Delivered(consumer, time.monotonic())
        return fresh

    def _new_for(self, stream: str, group: str, count: int) -> list[Entry]:
        state = self._streams[stream].groups.setdefault(group, _Group())
        return self._streams[stream].after(state.last_delivered, count)

    async def tail(
        self, stream: str, after_id: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        await self._wait_for(lambda: self._streams[stream].after(after_id, 1), block_secs)
        return self._streams[stream].after(after_id, count)

    async def _wait_for(self, ready: Callable[[], list[Entry]], block_secs: float) -> None:
        try:
            async with asyncio.timeout(block_secs), self._published:
                await self._published.wait_for(ready)
        except TimeoutError:
            return

    async def last_id(self, stream: str) -> str:
        entries = self._streams[stream].entries
        return entries[-1].entry_id if entries else self.START

    async def pending(
        self,
        stream: str,
        group: str,
        *,
        count: int,
        min_idle_secs: float,
        consumer: str | None = None,
    ) -> list[PendingEntry]:
        now_secs = time.monotonic()
        pending = self._streams[stream].groups.get(group, _Group()).pending
        rows = [
            PendingEntry(
                entry_id=entry_id,
                consumer=delivered.consumer,
                idle_secs=now_secs - delivered.at_secs,
                deliveries=delivered.deliveries,
            )
            for entry_id, delivered in sorted(pending.items(), key=lambda item: id_order(item[0]))
            if consumer in {None, delivered.consumer}
        ]
        return [row for row in rows if row.idle_secs >= min_idle_secs][:count]

    async def claim(
        self, stream: str, group: str, consumer: str, entry_id: str, *, min_idle_secs: float
    ) -> Entry | None:
        group_state = self._streams[stream].groups.setdefault(group, _Group())
        delivered = group_state.pending.get(entry_id)
        if delivered is None or time.monotonic() - delivered.at_secs < min_idle_secs:
            return None
        entry = self._find(stream, entry_id)
        if entry is None:
            del group_state.pending[entry_id]
            return None
        group_state.pending[entry_id] = _Delivered(
            consumer, time.monotonic(), delivered.deliveries + 1
        )
        return entry

    async def renew(self, stream: str, group: str, consumer: str, entry_ids: Sequence[str]) -> None:
        pending = self._streams[stream].groups.get(group, _Group()).pending
        for delivered in filter(None, map(pending.get, entry_ids)):
            if delivered.consumer == consumer:
                delivered.at_secs = time.monotonic()

    def _find(self, stream: str, entry_id: str) -> Entry | None:
        return next((e for e in self._streams[stream].entries if e.entry_id == entry_id), None)

    async def entry(self, stream: str, entry_id: str) -> Entry | None:
        return self._find(stream, entry_id)

    async def groups(self, stream: str) -> dict[str, Group]:
        return {
            name: Group(delivered_id=group.last_delivered, pending=len(group.pending))
            for name, group in self._streams[stream].groups.items()
        }

    async def floor(self, stream: str, group: str) -> str:
        state = self._streams[stream].groups.get(group)
        if state is None:
            return self.START
        if state.pending:
            return min(state.pending, key=id_order)
        return next_id(state.last_delivered)

    async def length(self, stream: str) -> int:
        return len(self._streams[stream].entries)

    async def trim(self, stream: str, min_id: str) -> int:
        entries = self._streams[stream].entries
        gone = bisect_left(entries, id_order(min_id), key=_order)
        del entries[:gone]
        return gone

    async def lists(self, keys: Sequence[str], *, count: int) -> list[list[bytes]]:
        for key in keys:
            self._expire_now(key)
        return [self._lists.get(key, [])[:count] for key in keys]

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        for key in keys:
            self._expire_now(key)
        return [dict(self._hashes.get(key, {})) for key in keys]

    async def keys(self, prefix: str) -> list[str]:
        for key in list(self._expires_at_secs):
            self._expire_now(key)
        names = [*self._hashes, *self._lists, *self._streams]
        return sorted(name for name in names if name.startswith(prefix))

    async def now_secs(self) -> float:
        return time.time()

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return

    async def flush(self) -> None:
        """Lose everything, as FLUSHALL does."""
        self._streams.clear()
        self._hashes.clear()
        self._lists.clear()
        self._expires_at_secs.clear()
