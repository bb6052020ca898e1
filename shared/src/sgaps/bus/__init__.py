"""Streams with consumer groups: the interface, the Redis one, the in-memory one, the consumer."""

from sgaps.bus.base import (
    Ack,
    Bus,
    Count,
    Effect,
    Entry,
    Group,
    Operation,
    PendingEntry,
    Publish,
    Push,
    Put,
    id_order,
    next_id,
    published_at_secs,
)
from sgaps.bus.consumer import Consumer, Outcome
from sgaps.bus.ledger import LedgerGuard, in_flight
from sgaps.bus.memory_bus import MemoryBus
from sgaps.bus.policy import Delivery, KeepNewest
from sgaps.bus.redis_bus import RedisBus
from sgaps.bus.trim import Trimmer, every_second, trim_behind

__all__ = [
    "Ack",
    "Bus",
    "Consumer",
    "Count",
    "Delivery",
    "Effect",
    "Entry",
    "Group",
    "KeepNewest",
    "LedgerGuard",
    "MemoryBus",
    "Operation",
    "Outcome",
    "PendingEntry",
    "Publish",
    "Push",
    "Put",
    "RedisBus",
    "Trimmer",
    "every_second",
    "id_order",
    "in_flight",
    "next_id",
    "published_at_secs",
    "trim_behind",
]
