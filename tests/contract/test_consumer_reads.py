"""How much a consumer reads at once, over both buses: what fits into memory."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from contract.conftest import (
    GROUP,
    STREAM,
    Recorder,
    Sizes,
    bus_settings,
    consumer,
    frame,
    publish,
    read,
)
from sgaps.bus import Bus, Consumer, Publish
from sgaps.bus import consumer as consumer_module
from sgaps.messages import FrameAccepted


async def reading(bus: Bus) -> tuple[Consumer[FrameAccepted], Sizes]:
    handler = Sizes()
    await bus.ensure_group(STREAM, GROUP)
    return consumer(bus, handler), handler


async def test_what_is_read_at_once_fits_into_memory(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FIRST_READ", 2)
    monkeypatch.setattr(consumer_module, "MAX_READ_BYTES", 5 * len(frame(1).encode()) + 50)
    reader, handler = await reading(bus)
    await publish(bus, *range(20))
    for _ in range(5):
        await reader.turn()
    assert handler.sizes == [2, 4, 5, 5, 4]
    assert handler.seen == list(range(20))


def with_true_frame(frame_id: int) -> FrameAccepted:
    return msgspec.structs.replace(frame(frame_id), keyframe=b"x" * 4000)


async def test_a_large_entry_among_small_ones_is_what_the_next_read_is_measured_by(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the mean of the first ten, the next read would be twenty large ones."""
    monkeypatch.setattr(consumer_module, "FIRST_READ", 10)
    monkeypatch.setattr(consumer_module, "MAX_READ_BYTES", 4 * len(with_true_frame(1).encode()) + 9)
    reader, handler = await reading(bus)
    await publish(bus, *range(9))
    await bus.write(*(Publish(with_true_frame(i)) for i in range(9, 18)))
    for _ in range(3):
        await reader.turn()
    assert handler.sizes == [10, 4, 4]


async def test_a_large_entry_of_long_ago_makes_no_read_smaller(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FORGET_HALF_AFTER", 10)
    monkeypatch.setattr(consumer_module, "MAX_READ_BYTES", 100 * 2 * len(frame(1).encode()))
    reader, handler = await reading(bus)
    await bus.publish(with_true_frame(0))
    await publish(bus, *range(1, 400))
    while len(handler.seen) < 400:
        await reader.turn()
    assert handler.sizes[1] < 20
    assert max(handler.sizes) == bus_settings().batch_size


async def test_the_first_read_of_a_backlog_is_a_careful_one(bus: Bus) -> None:
    """It may be of large entries, though those that came one by one before were small."""
    reader, handler = await reading(bus)
    for frame_id in range(4):
        await publish(bus, frame_id)
        await reader.turn()
    await publish(bus, *range(200))
    for _ in range(3):
        await reader.turn()
    assert handler.sizes == [1, 1, 1, 1, consumer_module.FIRST_READ, bus_settings().batch_size, 36]


async def test_who_lets_nothing_go_fetches_pending_entries_only_one_by_one(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they may be more than a recorder has memory for."""
    fetch, handler, seen_at_fetches = bus.entry, Recorder(), []

    async def fetching(*args: Any) -> object:
        seen_at_fetches.append(len(handler.seen))
        return await fetch(*args)

    monkeypatch.setattr(bus, "entry", fetching)
    await publish(bus, 1, 2, 3)
    await read(bus, "dead")
    await asyncio.sleep(0.06)
    await consumer(bus, handler, name="heir").turn()
    assert handler.seen == [1, 2, 3]
    assert seen_at_fetches == [0, 1, 2]
