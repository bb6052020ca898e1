"""The bus: streams with consumer groups, and small keyed values beside them.

Two implementations pass one contract suite: `RedisBus` on a Redis-compatible server and
`MemoryBus` in this process. What a handler wants written is a list of operations, applied
together or not at all, so an answer and the acknowledgement of its question cannot part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from sgaps.messages import Message

LEDGER_KEY = "sgaps:ledger"
"""Hash: the frame ledger, see `sgaps.bus.ledger`."""
LEDGER_MARK = ".watched"
"""A field of it that is no column: gone with a ledger that was lost, and another in the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a stream, not yet decoded."""

    entry_id: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingEntry:
    """An entry that was delivered to a consumer and is not acknowledged."""

    entry_id: str
    consumer: str
    idle_secs: float
    deliveries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """How far a consumer group is."""

    delivered_id: str
    """Id of the newest entry that one of its members was given; START without any."""
    pending: int
    """Entries that were given and not acknowledged."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Append a message to its stream, which keeps its `max_entries` newest and may expire."""

    message: Message
    max_entries: int | None = None
    ttl_secs: float | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Set fields of a hash and let the whole hash expire later.

    Without fields it only lives longer, for which a full broker has room.

    `rising` is one of the fields, a whole number: where the hash has a larger one, its fields stay.
    """

    key: str
    fields: Mapping[str, bytes]
    ttl_secs: float
    rising: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """Put a value at the head of a list that keeps its `keep` newest, and let it expire."""

    key: str
    value: bytes
    keep: int
    ttl_secs: float


@dataclass(frozen=True, slots=True)
class Count:
    """Add to a counter of the frame ledger: received, delivered, or a reason for a drop."""

    name: str
    amount: int = 1


Effect: TypeAlias = Publish | Put | Push | Count


@dataclass(frozen=True, slots=True)
class Ack:
    """Take entries off a group's pending list; `then`, for each that was still on it.

    So an entry that two consumers did, since one was thought dead, is answered and booked once,
    and a write that may have got through can be repeated. What follows needs memory; a full broker
    takes `Bus.acknowledge`, and `Ack` without `then`.
    """

    stream: str
    group: str
    entry_ids: Sequence[str]
    then: Sequence[Effect] = ()


Operation: TypeAlias = Effect | Ack


class Bus(ABC):
    """All methods raise BusError: BusUnavailable without a broker, BusFull where it is full."""

    START: ClassVar[str] = "0-0"

    @abstractmethod
    async def write(self, *operations: Operation) -> None:
        """Apply the operations in order, all or none."""

    @abstractmethod
    async def acknowledge(self, stream: str, group: str, entry_ids: Sequence[str]) -> set[str]:
        """Take entries off a group's pending list, whatever else; which of them were on it.

        It needs no memory: a full broker does it too.
        """

    @abstractmethod
    async def ensure_group(self, stream: str, group: str) -> None:
        """Create the group at the beginning of the stream unless it is there."""

    @abstractmethod
    async def read(
        self, stream: str, group: str, consumer: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        """Deliver up to `count` new entries; a lost group is created again. [] after a wait."""

    @abstractmethod
    async def tail(
        self, stream: str, after_id: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        """Entries after an id, for a reader without a group."""

    @abstractmethod
    async def last_id(self, stream: str) -> str:
        """Id of the newest entry; START for an empty or absent stream."""

    @abstractmethod
    async def pending(
        self,
        stream: str,
        group: str,
        *,
        count: int,
        min_idle_secs: float,
        consumer: str | None = None,
    ) -> list[PendingEntry]:
        """Oldest pending entries idle for at least so long, of all consumers or of one."""

    @abstractmethod
    async def claim(
        self, stream: str, group: str, consumer: str, entry_id: str, *, min_idle_secs: float
    ) -> Entry | None:
        """Take over one pending entry, counting a delivery; None if gone or not idle enough."""

    @abstractmethod
    async def renew(self, stream: str, group: str, consumer: str, entry_ids: Sequence[str]) -> None:
        """Begin the idle time of entries anew, where they are still this consumer's.

        No delivery is counted. A full broker does it too.
        """

    @abstractmethod
    async def entry(self, stream: str, entry_id: str) -> Entry | None:
        """One entry, if it is still in the stream."""

    @abstractmethod
    async def groups(self, stream: str) -> dict[str, Group]:
        """The groups of a stream, by name; {} for an absent stream."""

    @abstractmethod
    async def floor(self, stream: str, group: str) -> str:
        """Oldest id the group may still need: everything below it is safe to trim."""

    @abstractmethod
    async def length(self, stream: str) -> int:
        """Entries in the stream."""

    @abstractmethod
    async def trim(self, stream: str, min_id: str) -> int:
        """Delete entries with smaller ids; how many went."""

    @abstractmethod
    async def lists(self, keys: Sequence[str], *, count: int) -> list[list[bytes]]:
        """The newest `count` values of each list, newest first; [] for an absent one."""

    @abstractmethod
    async def hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """The hashes of the keys, in order; {} for an absent one."""

    @abstractmethod
    async def keys(self, prefix: str) -> list[str]:
        """Keys that begin so. For small families only, such as heartbeats."""

    @abstractmethod
    async def now_secs(self) -> float:
        """The clock that entry ids come from, in seconds since the epoch."""

    @abstractmethod
    async def ping(self) -> None:
        """Return if the broker answers."""

    @abstractmethod
    async def close(self) -> None:
        """Give the connections back."""

    async def publish(self, message: Message) -> None:
        """Append one message to its stream."""
        await self.write(Publish(message))

    async def delivered(self, stream: str, group: str) -> str:
        """Id of the newest entry that a member of the group was given; START without any."""
        found = (await self.groups(stream)).get(group)
        return found.delivered_id if found else self.START

    async def ledger(self) -> dict[str, int]:
        """Every column of the frame ledger."""
        (fields,) = await self.hashes([LEDGER_KEY])
        return columns_of(fields)


def columns_of(fields: Mapping[str, bytes]) -> dict[str, int]:
    """The columns in the hash of the ledger."""
    return {name: int(value) for name, value in fields.items() if name != LEDGER_MARK}


def next_id(entry_id: str) -> str:
    """The smallest id after this one."""
    millis, sequence = entry_id.split("-")
    return f"{millis}-{int(sequence) + 1}"


def published_at_secs(entry_id: str) -> float:
    """When an entry was published, by the broker's clock."""
    return id_order(entry_id)[0] / 1000


def id_order(entry_id: str) -> tuple[int, int]:
    """Sort key of an entry id."""
    millis, sequence = entry_id.split("-")
    return int(millis), int(sequence)
