"""What may be trimmed, and what expires; over both buses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

import pytest

from contract.conftest import (
    GROUP,
    STREAM,
    Recorder,
    bus_settings,
    consumer,
    let_it_be_full,
    lose_a_reply,
    publish,
    read,
    trim,
)
from sgaps.bus import (
    Ack,
    Bus,
    Entry,
    Trimmer,
    next_id,
    published_at_secs,
)
from sgaps.bus.trim import EXPIRE_AT_ONCE
from sgaps.errors import BusUnavailable


async def test_the_floor_is_the_oldest_entry_still_needed(bus: Bus) -> None:
    assert await bus.floor(STREAM, GROUP) == bus.START
    await publish(bus, 1, 2, 3)
    ids = await read(bus)
    assert await bus.floor(STREAM, GROUP) == ids[0]
    await bus.write(Ack(STREAM, GROUP, ids[:1]))
    assert await bus.floor(STREAM, GROUP) == ids[1]
    await bus.write(Ack(STREAM, GROUP, ids[1:]))
    assert await bus.floor(STREAM, GROUP) == next_id(ids[2])
    assert await bus.trim(STREAM, await bus.floor(STREAM, GROUP)) == 3
    assert await bus.length(STREAM) == 0


@pytest.mark.parametrize(("max_backlog", "left", "expired"), [(100, 3, 0), (1, 1, 2)])
async def test_frames_are_trimmed_only_behind_the_recorder(
    bus: Bus, max_backlog: int, left: int, expired: int
) -> None:
    await publish(bus, 1, 2)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    await bus.ensure_group(STREAM, "slow")
    if expired:
        await trim(bus, max_backlog)
    await publish(bus, 3)
    await trim(bus, max_backlog)
    assert await bus.length(STREAM) == left
    assert (await bus.ledger()).get("expired", 0) == expired


async def test_what_the_recorder_has_not_is_never_expired(bus: Bus) -> None:
    await publish(bus, 1, 2, 3)
    await bus.ensure_group(STREAM, GROUP)
    await bus.ensure_group(STREAM, "slow")
    await trim(bus, max_backlog=1)
    assert await bus.length(STREAM) == 3
    assert await bus.ledger() == {}


async def test_what_a_dead_replica_held_expires_too(bus: Bus) -> None:
    await publish(bus, 1, 2)
    await bus.ensure_group(STREAM, "slow")
    await bus.read(STREAM, "slow", "dead", count=1, block_secs=0.02)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    await asyncio.sleep(0.06)
    await trim(bus, max_backlog=1)
    assert await bus.length(STREAM) == 0
    assert await bus.ledger() == {"expired": 2}


async def test_what_is_done_and_not_trimmed_yet_is_no_backlog(bus: Bus) -> None:
    await publish(bus, *range(10))
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    await bus.ensure_group(STREAM, "slow")
    done = await bus.read(STREAM, "slow", "one", count=8, block_secs=0.02)
    await bus.write(Ack(STREAM, "slow", [entry.entry_id for entry in done]))
    await trim(bus, max_backlog=2)
    assert (await bus.length(STREAM), await bus.ledger()) == (2, {})


async def test_what_waited_too_long_for_a_group_expires_and_nothing_younger(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(bus, 1, 2)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    await bus.ensure_group(STREAM, "slow")
    await asyncio.sleep(0.3)
    await publish(bus, 3)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    third_secs = published_at_secs(await bus.last_id(STREAM))
    monkeypatch.setattr(bus, "now_secs", AsyncMock(return_value=third_secs + 0.1))
    settings = bus_settings(max_backlog_secs=0.2)
    assert await Trimmer(bus, settings).trim_recorded(STREAM, must=GROUP, may="slow") == 2
    assert await bus.length(STREAM) == 1
    handler = Recorder()
    await consumer(bus, handler, group="slow").turn()
    assert handler.seen == [3]
    assert (await bus.ledger())["expired"] == 2


@pytest.mark.parametrize("has_members", [True, False])
async def test_what_waits_for_a_group_without_members_expires(bus: Bus, has_members: bool) -> None:
    if has_members:
        await bus.ensure_group(STREAM, "slow")
    await publish(bus, 1, 2)
    assert await Trimmer(bus, bus_settings()).trim_waiting(STREAM, "slow") == 0
    await asyncio.sleep(0.1)
    impatient = Trimmer(bus, bus_settings(max_backlog_secs=0.05))
    assert await impatient.trim_waiting(STREAM, "slow") == 2
    assert (await bus.length(STREAM), await bus.ledger()) == (0, {"expired": 2})


async def test_what_a_full_broker_cannot_book_is_booked_when_it_has_room(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not end the turn that gives it room."""
    await bus.ensure_group(STREAM, "slow")
    await publish(bus, *range(2 * EXPIRE_AT_ONCE + 1))
    await asyncio.sleep(0.1)
    trimmer = Trimmer(bus, bus_settings(max_backlog_secs=0.05))
    room = let_it_be_full(bus, monkeypatch)
    assert await trimmer.trim_waiting(STREAM, "slow") == 2 * EXPIRE_AT_ONCE + 1
    assert (await bus.length(STREAM), await bus.ledger()) == (0, {})
    room.set()
    assert await trimmer.trim_waiting(STREAM, "slow") == 0
    assert await bus.ledger() == {"expired": 2 * EXPIRE_AT_ONCE + 1}
    assert await trimmer.trim_waiting(STREAM, "slow") == 0
    assert await bus.ledger() == {"expired": 2 * EXPIRE_AT_ONCE + 1}


async def test_what_a_full_broker_took_out_without_a_word_is_booked(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.ensure_group(STREAM, "slow")
    await publish(bus, 1, 2)
    await asyncio.sleep(0.1)
    trimmer = Trimmer(bus, bus_settings(max_backlog_secs=0.05))
    room = let_it_be_full(bus, monkeypatch)
    lose_a_reply(bus, monkeypatch)
    with pytest.raises(BusUnavailable):
        await trimmer.trim_waiting(STREAM, "slow")
    room.set()
    for _ in range(2):
        await trimmer.trim_waiting(STREAM, "slow")
    assert await bus.ledger() == {"expired": 2}


async def test_what_came_after_a_look_is_too_young_to_expire(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member reads between the look and the taking: what is taken is younger."""
    await bus.ensure_group(STREAM, "slow")
    await publish(bus, 1, 2)
    await asyncio.sleep(0.1)
    tail = bus.tail

    async def tail_then_others(*arguments: Any, **options: Any) -> Sequence[Entry]:
        seen = await tail(*arguments, **options)
        await bus.read(STREAM, "slow", "quick", count=1, block_secs=0.02)
        await publish(bus, 3)
        return seen

    monkeypatch.setattr(bus, "tail", tail_then_others)
    patient = bus_settings(max_backlog_secs=0.05).model_copy(update={"min_idle_secs": 60})
    assert await Trimmer(bus, patient).trim_waiting(STREAM, "slow") == 1
    assert await bus.ledger() == {"expired": 1}
    assert (await bus.groups(STREAM))["slow"].pending == 2
