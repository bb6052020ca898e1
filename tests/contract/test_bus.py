"""One suite for both buses: what the in-memory double does, the real server does."""

from __future__ import annotations

import asyncio
import time

import pytest

from contract.conftest import (
    GROUP,
    STREAM,
    bus_settings,
    flush,
    frame,
    publish,
    read,
)
from sgaps.bus import (
    Ack,
    Bus,
    Count,
    MemoryBus,
    Publish,
    Push,
    Put,
    RedisBus,
    next_id,
)
from sgaps.errors import BusUnavailable
from sgaps.messages import CheckpointPublished, FrameAccepted


async def test_a_group_gets_each_entry_once_in_order(bus: Bus) -> None:
    await publish(bus, 1, 2, 3)
    first = await read(bus, "one", count=2)
    second = await read(bus, "two")
    assert len(first) == 2
    assert len(second) == 1
    assert sorted([*first, *second]) == [*first, *second]
    assert await read(bus) == []


async def test_an_acknowledgement_tells_what_was_there(bus: Bus) -> None:
    await publish(bus, 1, 2, 3)
    one, two, three = await read(bus)
    await bus.write(Ack(STREAM, GROUP, [two]))
    assert await bus.acknowledge(STREAM, GROUP, [one, two]) == {one}
    left = await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0)
    assert [row.entry_id for row in left] == [three]


async def test_two_groups_each_get_everything(bus: Bus) -> None:
    await publish(bus, 1, 2)
    await bus.ensure_group(STREAM, "other")
    others = await bus.read(STREAM, "other", "x", count=10, block_secs=0.02)
    assert [entry.entry_id for entry in others] == await read(bus)


async def test_a_group_starts_at_the_beginning_of_the_stream(bus: Bus) -> None:
    await publish(bus, 7)
    await bus.ensure_group(STREAM, "late")
    (entry,) = await bus.read(STREAM, "late", "x", count=10, block_secs=0.02)
    assert FrameAccepted.decode(entry.data) == frame(7)


async def test_a_blocked_read_wakes_up(bus: Bus) -> None:
    await bus.ensure_group(STREAM, GROUP)
    reading = asyncio.create_task(bus.read(STREAM, GROUP, "one", count=1, block_secs=2.0))
    await asyncio.sleep(0.05)
    started_at_secs = time.monotonic()
    await publish(bus, 1)
    assert len(await reading) == 1
    assert time.monotonic() - started_at_secs < 1.0


async def test_an_acknowledged_entry_is_not_pending(bus: Bus) -> None:
    await publish(bus, 1, 2)
    first, second = await read(bus)
    await bus.write(Ack(STREAM, GROUP, [first]))
    pending = await bus.pending(STREAM, GROUP, count=10, min_idle_secs=0.0)
    assert [(p.entry_id, p.consumer, p.deliveries) for p in pending] == [(second, "one", 1)]


async def test_a_claim_needs_idleness_and_counts_a_delivery(bus: Bus) -> None:
    await publish(bus, 1)
    (entry_id,) = await read(bus, "dead")
    assert await bus.claim(STREAM, GROUP, "heir", entry_id, min_idle_secs=60) is None
    claimed = await bus.claim(STREAM, GROUP, "heir", entry_id, min_idle_secs=0.0)
    assert claimed is not None
    (row,) = await bus.pending(STREAM, GROUP, count=10, min_idle_secs=0.0)
    assert (row.consumer, row.deliveries) == ("heir", 2)


async def test_a_claim_of_a_trimmed_entry_finds_nothing(bus: Bus) -> None:
    await publish(bus, 1)
    (entry_id,) = await read(bus)
    await bus.trim(STREAM, next_id(entry_id))
    assert await bus.claim(STREAM, GROUP, "heir", entry_id, min_idle_secs=0.0) is None
    assert await bus.entry(STREAM, entry_id) is None


async def test_a_stream_with_a_limit_keeps_its_newest(bus: Bus) -> None:
    for frame_id in range(5):
        await bus.write(Publish(frame(frame_id), max_entries=2))
    entries = await bus.tail(STREAM, bus.START, count=10, block_secs=0)
    assert [FrameAccepted.decode(e.data).frame_id for e in entries] == [3, 4]
    assert await bus.last_id(STREAM) == entries[-1].entry_id


async def test_many_writers_at_once_are_each_stored_whole_and_in_their_order(bus: Bus) -> None:
    async def session(name: str) -> None:
        for frame_id in range(5):
            await bus.write(Publish(frame(frame_id, name)), Push(name, b"x", 9, 9), Count("writes"))

    names = [f"s{number}" for number in range(40)]
    await asyncio.gather(*map(session, names))
    entries = await bus.tail(STREAM, bus.START, count=1000, block_secs=0)
    messages = [FrameAccepted.decode(entry.data) for entry in entries]
    for name in names:
        assert [m.frame_id for m in messages if m.session_id == name] == list(range(5))
    lists = await bus.lists(names, count=9)
    assert [len(values) for values in lists] == [5] * len(names)
    assert await bus.ledger() == {"writes": 200}


async def test_a_writer_that_gives_up_harms_no_other(bus: Bus) -> None:
    writes = [asyncio.create_task(bus.write(Count("x"))) for _ in range(20)]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is not None] == [
        outcome for outcome in outcomes if isinstance(outcome, asyncio.CancelledError)
    ]
    await bus.write(Count("x"))
    assert 11 <= (await bus.ledger())["x"] <= 21


async def test_streams_hashes_and_lists_expire(bus: Bus) -> None:
    await bus.write(
        Publish(frame(1), ttl_secs=0.05),
        Put("h", {"a": b"1"}, 0.05),
        Put("nothing", {}, 9),
        Push("l", b"1", 3, 0.05),
    )
    await asyncio.sleep(0.1)
    assert await bus.lists(["l"], count=5) == [[]]
    assert await bus.hashes(["h"]) == [{}]
    assert await bus.keys("") == []


async def test_values_beside_the_streams(bus: Bus) -> None:
    await bus.write(Put("h", {"a": b"1"}, 9), Put("h", {"b": b"2"}, 9), Count("x"), Count("x", 2))
    for value in (b"1", b"2", b"3"):
        await bus.write(Push("l", value, 2, 9))
    assert await bus.hashes(["h", "none"]) == [{"a": b"1", "b": b"2"}, {}]
    assert await bus.hashes([]) == []
    assert await bus.lists(["l", "none"], count=5) == [[b"3", b"2"], []]
    assert await bus.lists(["l"], count=1) == [[b"3"]]
    assert await bus.ledger() == {"x": 3}
    assert await bus.keys("h") == ["h"]


async def test_a_rising_number_never_falls_nor_what_was_put_with_it(bus: Bus) -> None:
    def put(number: int, name: bytes) -> Put:
        return Put("h", {"name": name, "number": b"%d" % number}, 9, rising="number")

    await bus.write(put(9, b"first"))
    await bus.write(put(8, b"late"), Count("late"))
    assert await bus.hashes(["h"]) == [{"name": b"first", "number": b"9"}]
    await bus.write(put(9, b"again"))
    assert await bus.hashes(["h"]) == [{"name": b"again", "number": b"9"}]
    await publish(bus, 1, 2)
    ids = await read(bus)
    await bus.write(Ack(STREAM, GROUP, ids, [put(3, b"late"), Count("done")]))
    assert await bus.hashes(["h"]) == [{"name": b"again", "number": b"9"}]
    await bus.write(put(10, b"newer"))
    assert await bus.hashes(["h"]) == [{"name": b"newer", "number": b"10"}]
    assert await bus.ledger() == {"late": 1, "done": 2}


async def test_messages_of_one_owner_have_their_own_stream(bus: Bus) -> None:
    await bus.publish(CheckpointPublished(checkpoint_key="k", model_version="v1", val_psnr_db=20.0))
    assert await bus.length(CheckpointPublished.STREAM) == 1
    assert await bus.length(STREAM) == 0


async def test_a_flushed_group_is_created_again(bus: Bus, request: pytest.FixtureRequest) -> None:
    await publish(bus, 1)
    await read(bus)
    url = "" if isinstance(bus, MemoryBus) else request.getfixturevalue("broker_url")
    reading = asyncio.create_task(bus.read(STREAM, GROUP, "one", count=1, block_secs=1.0))
    await asyncio.sleep(0.05)
    await flush(bus, url)
    await reading
    await publish(bus, 2)
    entries = await bus.read(STREAM, GROUP, "one", count=9, block_secs=0.5)
    if not entries:  # the read that found the group gone only created it again
        entries = await bus.read(STREAM, GROUP, "one", count=9, block_secs=0.5)
    assert [FrameAccepted.decode(e.data).frame_id for e in entries] == [2]


async def test_an_entry_that_two_have_done_is_answered_once(bus: Bus) -> None:
    await publish(bus, 1, 2)
    ids = await read(bus)
    answer = [Publish(CheckpointPublished(checkpoint_key="k", model_version="v", val_psnr_db=1.0))]
    await bus.write(Ack(STREAM, GROUP, ids, [*answer, Count("done"), Put("h", {"a": b"1"}, 9)]))
    await bus.write(Ack(STREAM, GROUP, ids, [*answer, Count("done"), Push("l", b"x", 2, 9)]))
    assert await bus.length(CheckpointPublished.STREAM) == 2
    assert await bus.ledger() == {"done": 2}
    assert await bus.lists(["l"], count=9) == [[]]
    assert await bus.hashes(["h"]) == [{"a": b"1"}]


async def test_without_a_broker_the_error_is_typed() -> None:
    bus = RedisBus(bus_settings("redis://127.0.0.1:1/0"))
    with pytest.raises(BusUnavailable):
        await bus.publish(frame(1))
    with pytest.raises(BusUnavailable):
        await bus.read(STREAM, GROUP, "one", count=1, block_secs=0.01)
    await bus.close()


async def test_to_renew_begins_the_idle_time_anew_of_ones_own_and_counts_no_delivery(
    bus: Bus,
) -> None:
    await publish(bus, 1, 2, 3)
    own, others, done = await read(bus)
    await bus.claim(STREAM, GROUP, "two", others, min_idle_secs=0)
    await bus.write(Ack(STREAM, GROUP, [done]))
    await asyncio.sleep(0.2)
    await bus.renew(STREAM, GROUP, "one", [own, others, done])
    (idle,) = await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.15)
    assert (idle.entry_id, idle.consumer) == (others, "two")
    renewed, _ = await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0)
    assert (renewed.entry_id, renewed.consumer, renewed.deliveries) == (own, "one", 1)


async def test_to_renew_what_was_trimmed_leaves_it_to_be_acknowledged(bus: Bus) -> None:
    await publish(bus, 1)
    (entry_id,) = await read(bus)
    await bus.trim(STREAM, next_id(entry_id))
    await bus.renew(STREAM, GROUP, "one", [entry_id])
    await bus.write(Ack(STREAM, GROUP, [entry_id], [Count("done")]))
    assert await bus.ledger() == {"done": 1}


async def test_to_renew_without_a_group_is_nothing(bus: Bus) -> None:
    await bus.renew(STREAM, "nobody", "one", ["1-1"])
    assert await bus.groups(STREAM) == {}
