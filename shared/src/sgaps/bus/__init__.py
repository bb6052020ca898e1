"""Streams with consumer groups: the interface, the Redis one, the in-memory one, the consumer."""

from sgaps.bus.base import (
    Ack,
    Bus,
    Count,
    Entry,
    Operation,
    PendingEntry,
    Publish,
    Push,
    Put,
    id_order,
    next_id,
)
from sgaps.bus.consumer import Consumer, Delivery, Outcome, keep_every, keep_newest
from sgaps.bus.memory_bus import MemoryBus
from sgaps.bus.redis_bus import RedisBus
from sgaps.bus.trim import trim_behind, trim_recorded

__all__ = [
    "Ack",
    "Bus",
    "Consumer",
    "Count",
    "Delivery",
    "Entry",
    "MemoryBus",
    "Operation",
    "Outcome",
    "PendingEntry",
    "Publish",
    "Push",
    "Put",
    "RedisBus",
    "id_order",
    "keep_every",
    "keep_newest",
    "next_id",
    "trim_behind",
    "trim_recorded",
]
