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
from sgaps.bus import Bus, Consumer, KeepNewest, Publish
from sgaps.bus import consumer as consumer_module
from sgaps.bus import reading as reading_module
from sgaps.messages import FrameAccepted
from waiting import PATIENCE_SECS


async def reading(bus: Bus) -> tuple[Consumer[FrameAccepted], Sizes]:
    handler = Sizes()
    await bus.ensure_group(STREAM, GROUP)
    return consumer(bus, handler), handler


async def test_what_is_read_at_once_fits_into_memory(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "FIRST_READ", 2)
    monkeypatch.setattr(reading_module, "MAX_READ_BYTES", 5 * len(frame(1).encode()) + 50)
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
    monkeypatch.setattr(reading_module, "FIRST_READ", 10)
    monkeypatch.setattr(reading_module, "MAX_READ_BYTES", 4 * len(with_true_frame(1).encode()) + 9)
    reader, handler = await reading(bus)
    await publish(bus, *range(9))
    await bus.write(*(Publish(with_true_frame(i)) for i in range(9, 18)))
    for _ in range(3):
        await reader.turn()
    assert handler.sizes == [10, 4, 4]


async def test_a_large_entry_of_long_ago_makes_no_read_smaller(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "FORGET_HALF_AFTER", 10)
    monkeypatch.setattr(reading_module, "MAX_READ_BYTES", 100 * 2 * len(frame(1).encode()))
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
    assert handler.sizes == [1, 1, 1, 1, reading_module.FIRST_READ, bus_settings().batch_size, 36]


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


async def test_inference_reads_all_that_waits_before_it_does_anything(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True frames make reads short: a turn for each would do ever older frames."""
    monkeypatch.setattr(reading_module, "MAX_READ_BYTES", 2 * len(with_true_frame(1).encode()))
    handler = Recorder()
    newest = consumer(bus, handler, policy=KeepNewest(2))
    await bus.ensure_group(STREAM, GROUP)
    await bus.publish(with_true_frame(1))
    await newest.turn()
    for frame_id in range(10, 100, 10):
        for session in range(3):
            whole = with_true_frame(frame_id + session)
            await bus.publish(msgspec.structs.replace(whole, session_id=f"s{session}"))
    await newest.turn()
    assert handler.seen == [1, 90, 91]
    for session in range(3):
        await publish(bus, 100 + session, session_id=f"s{session}")
    await newest.turn()
    assert 102 in handler.seen[-2:]  # who was let go, however often, is served first
    assert await bus.ledger() == {"seen": 5, "superseded": 26}
    assert await bus.pending(STREAM, GROUP, count=99, min_idle_secs=0.0) == []


async def test_inference_reads_no_more_where_it_can_do_all_that_it_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = bus_settings().batch_size
    monkeypatch.setattr(reading_module, "FIRST_READ", most)
    handler = Recorder()
    newest = consumer(bus, handler, policy=KeepNewest(most))
    await bus.ensure_group(STREAM, GROUP)
    for session in range(2 * most):
        await publish(bus, session, session_id=f"s{session}")
    for turn in range(1, 3):
        await newest.turn()
        assert handler.seen == list(range(turn * most))
    assert await bus.ledger() == {"seen": 2 * most}


async def test_inference_does_something_though_more_comes_than_it_can_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "FIRST_READ", 2)
    monkeypatch.setattr(reading_module, "MAX_READ_BYTES", 3 * len(frame(1).encode()))
    monkeypatch.setattr(consumer_module, "MAX_READING_SECS", 0.05)
    handler = Recorder()
    newest = consumer(bus, handler, policy=KeepNewest(2))
    await bus.ensure_group(STREAM, GROUP)
    await publish(bus, *range(10))
    take, next_ids = bus.read, iter(range(10, 10_000, 3))

    async def read_and_publish_more(*args: Any, **kwargs: Any) -> object:
        first = next(next_ids)
        await publish(bus, *range(first, first + 3))
        return await take(*args, **kwargs)

    monkeypatch.setattr(bus, "read", read_and_publish_more)
    async with asyncio.timeout(PATIENCE_SECS):
        await newest.turn()
    assert len(handler.seen) == 1
