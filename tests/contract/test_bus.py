"""One suite for both buses: what the in-memory double does, the real server does."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from redis.asyncio import Redis

from sgaps.bus import (
    Ack,
    Bus,
    Consumer,
    Count,
    Delivery,
    KeepNewest,
    LedgerGuard,
    MemoryBus,
    Outcome,
    Publish,
    Push,
    Put,
    RedisBus,
    in_flight,
    next_id,
    trim_recorded,
    trim_waiting,
)
from sgaps.bus import consumer as consumer_module
from sgaps.bus.consumer import nothing_to_prepare
from sgaps.bus.policy import Policy, keep_every
from sgaps.errors import BusUnavailable
from sgaps.messages import CheckpointPublished, DeadLetter, FrameAccepted
from sgaps.settings import BusSettings, load_settings

STREAM = FrameAccepted.STREAM
GROUP = "tested"


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    url = request.getfixturevalue("broker_url")
    redis_bus = RedisBus(bus_settings(url))
    await flush(redis_bus, url)
    yield redis_bus
    await redis_bus.close()


async def flush(bus: Bus, url: str = "") -> None:
    if isinstance(bus, MemoryBus):
        await bus.flush()
        return
    async with Redis.from_url(url) as redis:
        await redis.flushall()


def bus_settings(
    url: str = "redis://127.0.0.1:1/0", max_backlog: int = 1000, max_backlog_secs: float = 60.0
) -> BusSettings:
    changes: dict[str, object] = {
        "url": url,
        "block_secs": 0.05,
        "socket_timeout_secs": 2.0,
        "batch_size": 100,
        "min_idle_secs": 0.05,
        "max_deliveries": 3,
        "max_backlog": max_backlog,
        "max_backlog_secs": max_backlog_secs,
    }
    return _default_bus_settings().model_copy(update=changes)


@functools.cache
def _default_bus_settings() -> BusSettings:
    """Composed once: the state machines ask thousands of times."""
    return load_settings(environment={}).bus


def frame(frame_id: int, session_id: str = "s") -> FrameAccepted:
    return FrameAccepted(
        session_id=session_id,
        checkpoint_key="k",
        gateway_id="g",
        frame_id=frame_id,
        coordinate_set_id=0,
        width=4,
        height=3,
        samples_bytes=b"",
        state_bytes=b"",
        client_time_secs=0.0,
        received_at_secs=0.0,
    )


async def publish(bus: Bus, *frame_ids: int, session_id: str = "s") -> None:
    await bus.write(*(Publish(frame(i, session_id)) for i in frame_ids))


async def read(bus: Bus, consumer: str = "one", count: int = 100) -> list[str]:
    await bus.ensure_group(STREAM, GROUP)
    entries = await bus.read(STREAM, GROUP, consumer, count=count, block_secs=0.02)
    return [entry.entry_id for entry in entries]


class Recorder:
    """A handler that notes what it was given and fails where it is told to."""

    def __init__(self, *, poison: frozenset[int] = frozenset()) -> None:
        self.seen: list[int] = []
        self.poison = poison

    async def __call__(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        ids = [delivery.message.frame_id for delivery in batch]
        if self.poison & set(ids):
            raise ValueError("poisoned")
        self.seen += ids
        return Outcome(answers={d.entry_id: [Count("seen")] for d in batch})


class Sizes(Recorder):
    """Notes how many it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def __call__(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        self.sizes.append(len(batch))
        return await super().__call__(batch)


class ProcessDied(BaseException):
    """Stands for the end of a process."""


def consumer(
    bus: Bus,
    handler: Recorder,
    *,
    name: str = "one",
    prepare: Callable[[FrameAccepted], Awaitable[None]] = nothing_to_prepare,
    policy: Policy[FrameAccepted] = keep_every,
    group: str = GROUP,
) -> Consumer[FrameAccepted]:
    return Consumer(
        bus,
        FrameAccepted,
        group=group,
        name=name,
        settings=bus_settings(),
        handle=handler,
        prepare=prepare,
        policy=policy,
    )


async def test_a_group_gets_each_entry_once_in_order(bus: Bus) -> None:
    await publish(bus, 1, 2, 3)
    first = await read(bus, "one", count=2)
    second = await read(bus, "two")
    assert len(first) == 2
    assert len(second) == 1
    assert sorted([*first, *second]) == [*first, *second]
    assert await read(bus) == []


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
    lists, _ = await bus.lists_and_hashes(names, (), count=9)
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
        Push("l", b"1", 3, 0.05),
    )
    await asyncio.sleep(0.1)
    assert await bus.lists_and_hashes(["l"], ["h"], count=5) == ([[]], [{}])
    assert await bus.keys("") == []


async def test_values_beside_the_streams(bus: Bus) -> None:
    await bus.write(Put("h", {"a": b"1"}, 9), Put("h", {"b": b"2"}, 9), Count("x"), Count("x", 2))
    for value in (b"1", b"2", b"3"):
        await bus.write(Push("l", value, 2, 9))
    hashes = [{"a": b"1", "b": b"2"}, {}]
    assert await bus.hashes(["h", "none"]) == hashes
    lists = [[b"3", b"2"], []]
    assert await bus.lists_and_hashes(["l", "none"], ["h", "none"], count=5) == (lists, hashes)
    assert await bus.ledger() == {"x": 3}
    assert await bus.keys("h") == ["h"]


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


async def test_a_handled_batch_is_acknowledged_with_its_answers(bus: Bus) -> None:
    await publish(bus, 1, 2)
    handler = Recorder()
    await bus.ensure_group(STREAM, GROUP)
    await consumer(bus, handler).turn()
    assert handler.seen == [1, 2]
    assert await bus.ledger() == {"seen": 2}
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


async def test_inference_keeps_the_newest_frame_of_each_session(bus: Bus) -> None:
    await publish(bus, 1, 2, 3)
    await publish(bus, 1, session_id="t")
    handler = Recorder()
    await bus.ensure_group(STREAM, GROUP)
    newest = consumer(bus, handler, policy=KeepNewest(2))
    await newest.turn()
    assert sorted(handler.seen) == [1, 3]
    assert await bus.ledger() == {"seen": 2, "superseded": 2}
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


async def test_inference_lets_old_frames_go_that_it_never_heard_of(bus: Bus) -> None:
    """Read, but the reply was lost: done one by one they would keep the new ones waiting."""
    handler = Recorder()
    newest = consumer(bus, handler, policy=KeepNewest(2))
    await bus.ensure_group(STREAM, GROUP)
    await publish(bus, *range(20))
    await publish(bus, 5, session_id="t")
    assert len(await read(bus)) == 21
    stop = asyncio.Event()
    running = asyncio.create_task(newest.run(stop))
    await publish(bus, 20)
    while 20 not in handler.seen:
        await asyncio.sleep(0.01)
    stop.set()
    await running
    assert handler.seen == [19, 5, 20]
    assert await bus.ledger() == {"seen": 3, "superseded": 19}
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


async def test_the_dead_consumers_work_is_claimed(bus: Bus) -> None:
    await publish(bus, 1, 2)
    await read(bus, "dead")
    await asyncio.sleep(0.06)
    handler = Recorder()
    await consumer(bus, handler, name="heir").turn()
    assert handler.seen == [1, 2]


async def test_a_restarted_consumer_finishes_its_own_first(bus: Bus) -> None:
    await publish(bus, 1)
    await read(bus, "one")
    await publish(bus, 2)
    handler = Recorder()
    stop = asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler, name="one").run(stop))
    async with asyncio.timeout(5):
        while len(handler.seen) < 2:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    assert handler.seen == [1, 2]


async def test_a_poisoned_entry_ends_in_the_dead_stream_alone(bus: Bus) -> None:
    await publish(bus, 1, 2, 3)
    handler = Recorder(poison=frozenset({2}))
    await bus.ensure_group(STREAM, GROUP)
    worker = consumer(bus, handler)
    for _ in range(6):
        await worker.turn()
        await asyncio.sleep(0.06)
    assert sorted(handler.seen) == [1, 3]
    (entry,) = await bus.tail(DeadLetter.STREAM, bus.START, count=9, block_secs=0)
    letter = DeadLetter.decode(entry.data)
    assert FrameAccepted.decode(letter.data).frame_id == 2
    assert letter.deliveries == 3
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []
    assert (await bus.ledger())[f"dead_{GROUP}"] == 1


async def test_what_follows_from_no_acknowledgement_is_not_done(bus: Bus) -> None:
    await publish(bus, 1, 2)
    first, second = await read(bus)
    nothing = Ack(STREAM, GROUP, [], [Count("nothing")])
    await bus.write(nothing, Ack(STREAM, GROUP, [first]), Ack(STREAM, GROUP, [first, second]))
    await bus.write(nothing)
    assert await bus.ledger() == {}
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


async def test_to_die_while_an_entry_is_prepared_uses_up_no_delivery(bus: Bus) -> None:
    await publish(bus, 1)
    await read(bus, "one")
    deaths = 5

    async def prepare(frame: FrameAccepted) -> None:
        nonlocal deaths
        assert frame.frame_id == 1
        deaths -= 1
        if deaths >= 0:
            raise ProcessDied

    handler = Recorder()
    for _ in range(5):
        await asyncio.sleep(0.06)
        worker = consumer(bus, handler, prepare=prepare)
        with pytest.raises(ProcessDied):
            await worker.turn()
        (row,) = await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0)
        assert row.deliveries == 1
    await asyncio.sleep(0.06)
    await consumer(bus, handler, prepare=prepare).turn()
    assert handler.seen == [1]


async def test_an_entry_that_cannot_be_decoded_is_buried_at_once(bus: Bus) -> None:
    await bus.ensure_group(STREAM, GROUP)
    letter = DeadLetter(
        source_stream="x", group="y", entry_id="1-1", deliveries=1, reason="", data=b""
    )

    class Misplaced(DeadLetter, frozen=True, kw_only=True):
        STREAM = FrameAccepted.STREAM

    await bus.publish(Misplaced.decode(letter.encode()))
    handler = Recorder()
    await consumer(bus, handler).turn()
    assert handler.seen == []
    assert await bus.length(DeadLetter.STREAM) == 1
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


async def test_a_trimmed_pending_entry_is_booked_as_lost(bus: Bus) -> None:
    await publish(bus, 1)
    (entry_id,) = await read(bus, "dead")
    await bus.trim(STREAM, next_id(entry_id))
    await asyncio.sleep(0.06)
    await consumer(bus, Recorder(), name="heir").turn()
    assert await bus.ledger() == {f"lost_{GROUP}": 1}
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


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


async def test_what_is_read_at_once_fits_into_memory(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "FIRST_READ", 2)
    monkeypatch.setattr(consumer_module, "MAX_READ_BYTES", 5 * len(frame(1).encode()) + 50)
    handler = Sizes()
    reader = consumer(bus, handler)
    await bus.ensure_group(STREAM, GROUP)
    await publish(bus, *range(20))
    for _ in range(5):
        await reader.turn()
    assert handler.sizes == [2, 4, 5, 5, 4]
    assert handler.seen == list(range(20))


async def test_what_waited_too_long_for_a_group_expires_and_nothing_younger(bus: Bus) -> None:
    await publish(bus, 1, 2)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    await bus.ensure_group(STREAM, "slow")
    await asyncio.sleep(0.3)
    await publish(bus, 3)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    settings = bus_settings(max_backlog_secs=0.2)
    assert await trim_recorded(bus, STREAM, must=GROUP, may="slow", settings=settings) == 2
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
    assert await trim_waiting(bus, STREAM, "slow", bus_settings()) == 0
    await asyncio.sleep(0.1)
    assert await trim_waiting(bus, STREAM, "slow", bus_settings(max_backlog_secs=0.05)) == 2
    assert (await bus.length(STREAM), await bus.ledger()) == (0, {"expired": 2})


async def trim(bus: Bus, max_backlog: int) -> None:
    settings = bus_settings(max_backlog=max_backlog)
    await trim_recorded(bus, STREAM, must=GROUP, may="slow", settings=settings)


async def test_a_ledger_that_was_lost_is_written_again_with_the_loss(
    bus: Bus, request: pytest.FixtureRequest
) -> None:
    guard = LedgerGuard(bus)
    await bus.write(Count("received", 10), Count("delivered", 6), Count("superseded"))
    await guard.look()
    await flush(bus, "" if isinstance(bus, MemoryBus) else request.getfixturevalue("broker_url"))
    await bus.write(Count("received", 2))
    await guard.look()
    await guard.look()
    ledger = await bus.ledger()
    assert ledger == {"received": 12, "delivered": 6, "superseded": 1, "lost_flush": 3}
    assert in_flight(ledger) == 2


@pytest.mark.parametrize(
    ("gone", "after", "on_their_way"),
    [
        # Two frames that came and were answered: gone as if they had never been, but counted.
        ({"received": 2, "delivered": 2}, {"received": 10, "delivered": 6, "superseded": 1}, 3),
        # Two that came last and were on their way: lost.
        ({"received": 2}, {"received": 10, "delivered": 6, "superseded": 1, "lost_flush": 2}, 1),
        # One that came, three that were answered: two of them are on their way again.
        ({"received": 1, "delivered": 3}, {"received": 10, "delivered": 4, "superseded": 1}, 5),
    ],
)
async def test_a_ledger_that_lost_its_last_moments_is_not_counted_twice(
    bus: Bus, gone: dict[str, int], after: dict[str, int], on_their_way: int
) -> None:
    guard = LedgerGuard(bus)
    await bus.write(Count("received", 10), Count("delivered", 6), Count("superseded"))
    await guard.look()
    await bus.write(*(Count(name, -amount) for name, amount in gone.items()))
    before = in_flight(await bus.ledger())
    await guard.look()
    await guard.look()
    assert await bus.ledger() == after
    assert in_flight(after) == on_their_way == before


async def test_an_entry_that_two_have_done_is_answered_once(bus: Bus) -> None:
    await publish(bus, 1, 2)
    ids = await read(bus)
    answer = [Publish(CheckpointPublished(checkpoint_key="k", model_version="v", val_psnr_db=1.0))]
    await bus.write(Ack(STREAM, GROUP, ids, [*answer, Count("done"), Put("h", {"a": b"1"}, 9)]))
    await bus.write(Ack(STREAM, GROUP, ids, [*answer, Count("done"), Push("l", b"x", 2, 9)]))
    assert await bus.length(CheckpointPublished.STREAM) == 2
    assert await bus.ledger() == {"done": 2}
    assert await bus.lists_and_hashes(["l"], ["h"], count=9) == ([[]], [{"a": b"1"}])


async def test_inference_does_those_who_waited_longest(bus: Bus) -> None:
    handler, served = Recorder(), []
    newest = consumer(bus, handler, policy=KeepNewest(2))
    await bus.ensure_group(STREAM, GROUP)
    for turn in range(3):
        for session in range(6):
            await publish(bus, 10 * turn + session, session_id=f"s{session}")
        await newest.turn()
        served.append({frame_id % 10 for frame_id in handler.seen[-2:]})
    assert served == [{0, 1}, {2, 3}, {4, 5}]
    assert await bus.ledger() == {"seen": 6, "superseded": 12}


async def test_without_a_broker_the_error_is_typed() -> None:
    bus = RedisBus(bus_settings("redis://127.0.0.1:1/0"))
    with pytest.raises(BusUnavailable):
        await bus.publish(frame(1))
    with pytest.raises(BusUnavailable):
        await bus.read(STREAM, GROUP, "one", count=1, block_secs=0.01)
    await bus.close()
