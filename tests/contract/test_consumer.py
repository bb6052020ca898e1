"""What a consumer does with its batches, over both buses: retries, claims, burials."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from contract.conftest import (
    GROUP,
    STREAM,
    ProcessDied,
    Recorder,
    consumer,
    flush,
    let_it_be_full,
    lose_a_reply,
    publish,
    read,
)
from sgaps.bus import (
    Ack,
    Bus,
    Count,
    Delivery,
    KeepNewest,
    LedgerGuard,
    MemoryBus,
    Outcome,
    acknowledging,
    failures,
    holding,
    next_id,
)
from sgaps.bus import consumer as consumer_module
from sgaps.errors import BusUnavailable
from sgaps.messages import DeadLetter, FrameAccepted
from waiting import PATIENCE_SECS, eventually


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
    await eventually(lambda: 20 in handler.seen)
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
    await eventually(lambda: len(handler.seen) == 2)
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


async def test_what_a_handler_names_as_failed_costs_the_others_of_its_batch_nothing(
    bus: Bus,
) -> None:
    """It comes again as any entry does that stays pending, and the others are not done twice."""
    await publish(bus, 1, 2, 3)
    batches: list[list[int]] = []

    async def handle(batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        batches.append([d.message.frame_id for d in batch])
        return Outcome(failed=frozenset(d.entry_id for d in batch if d.message.frame_id == 2))

    await bus.ensure_group(STREAM, GROUP)
    worker = consumer(bus, handle)
    await worker.turn()
    assert batches == [[1, 2, 3]]
    assert len(await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0)) == 1
    await asyncio.sleep(0.06)
    await worker.turn()
    assert batches == [[1, 2, 3], [2]]


@pytest.mark.parametrize("are_left_behind", [True, False], ids=["claimed", "of a failed batch"])
async def test_who_is_told_to_stop_tries_no_other_one_alone(
    bus: Bus, *, are_left_behind: bool
) -> None:
    await publish(bus, 1, 2, 3)
    await bus.ensure_group(STREAM, GROUP)
    if are_left_behind:
        await read(bus, "one")
    stop = asyncio.Event()
    alone: list[int] = []

    async def handle(batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        if len(batch) > 1:
            raise ValueError(batch)
        alone.append(batch[0].message.frame_id)
        stop.set()
        return Outcome()

    await asyncio.wait_for(consumer(bus, handle, name="one").run(stop), PATIENCE_SECS)
    assert alone == [1]
    assert len(await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0)) == 2


async def test_who_fails_at_everything_says_so_and_who_does_anything_does_not(bus: Bus) -> None:
    """Else it would be ready for ever, and read faster than its healthy peers."""
    handler = Recorder(poison=frozenset({1, 2}))
    await bus.ensure_group(STREAM, GROUP)
    worker = consumer(bus, handler)
    assert worker.fails_for_secs == 0
    await publish(bus, 1)
    await worker.turn()
    assert worker.fails_for_secs == 0, "it may be the session's fault"
    await publish(bus, 2, session_id="another")
    await asyncio.sleep(0.02)
    await worker.turn()
    assert worker.fails_for_secs > 0.02
    await publish(bus, 3)
    await worker.turn()
    assert worker.fails_for_secs == 0


async def test_one_failure_of_an_hour_ago_is_none_now(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "STILL_TRIES_SECS", 1)
    handler = Recorder(poison=frozenset({1, 2}))
    await bus.ensure_group(STREAM, GROUP)
    worker = consumer(bus, handler)
    for session in (("a", "b"), ("c", "d")):
        for name in session:
            await publish(bus, 1, session_id=name)
        await worker.turn()
        assert 0 < worker.fails_for_secs < 1
        await asyncio.sleep(1.1)
        assert worker.fails_for_secs == 0


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


def lose_replies(bus: Bus, monkeypatch: pytest.MonkeyPatch, **lost: int) -> None:
    """The broker does what it is asked, and stalls before it says so."""

    def losing(ask: Callable[..., Awaitable[object]], count: int) -> Callable[..., object]:
        to_lose = iter(range(count))

        async def asked(*args: Any, **options: Any) -> object:
            answer = await ask(*args, **options)
            if answer and next(to_lose, None) is not None:
                raise BusUnavailable("no answer")
            return answer

        return asked

    for name, count in lost.items():
        monkeypatch.setattr(bus, name, losing(getattr(bus, name), count))


async def test_a_broker_that_stalls_buries_nothing_that_no_handler_saw(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost answer to a read and to each claim would have used up all deliveries."""
    monkeypatch.setattr(consumer_module, "BUS_RETRY_SECS", 0.01)
    lose_replies(bus, monkeypatch, read=1, claim=5)
    await publish(bus, 1)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually(lambda: handler.seen)
    stop.set()
    await running
    assert await bus.ledger() == {"seen": 1}
    assert await bus.length(DeadLetter.STREAM) == 0


async def test_a_broker_that_stalls_gives_an_entry_that_kills_no_more_lives(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "BUS_RETRY_SECS", 0.01)
    await publish(bus, 1)
    deaths = 0

    class Deadly(Recorder):
        async def __call__(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
            nonlocal deaths
            deaths += 1
            raise ProcessDied

    for _ in range(3):
        with pytest.raises(ProcessDied):
            await consumer(bus, Deadly()).run(asyncio.Event())
    lose_replies(bus, monkeypatch, claim=4)
    stop = asyncio.Event()
    running = asyncio.create_task(consumer(bus, Deadly()).run(stop))
    await eventually_buried(bus)
    stop.set()
    await running
    assert deaths == 3


async def eventually_buried(bus: Bus) -> None:
    async with asyncio.timeout(PATIENCE_SECS):
        while not await bus.length(DeadLetter.STREAM):
            await asyncio.sleep(0.01)


async def test_a_claim_that_never_reached_the_broker_is_none_in_vain(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used up nothing: to take it off would give a deadly entry one more try."""
    await publish(bus, 1)
    (entry_id,) = await read(bus)
    for _ in range(2):
        await bus.claim(STREAM, GROUP, "one", entry_id, min_idle_secs=0)
    monkeypatch.setattr(consumer_module, "BUS_RETRY_SECS", 0.01)
    claim, handler, stop = bus.claim, Recorder(), asyncio.Event()
    unreached = iter(range(3))

    async def claim_at_last(*args: Any, **options: Any) -> object:
        if next(unreached, None) is not None:
            raise BusUnavailable("no way there")
        return await claim(*args, **options)

    monkeypatch.setattr(bus, "claim", claim_at_last)
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually_buried(bus)
    stop.set()
    await running
    assert handler.seen == []


def undecodable(data: bytes = b"") -> DeadLetter:
    """No frame, on the stream of frames."""

    class Misplaced(DeadLetter, frozen=True, kw_only=True):
        STREAM = FrameAccepted.STREAM

    return Misplaced(
        source_stream="x", group="y", entry_id="1-1", deliveries=1, reason="", data=data
    )


async def test_an_entry_that_cannot_be_decoded_is_buried_at_once(bus: Bus) -> None:
    await bus.ensure_group(STREAM, GROUP)
    await bus.publish(undecodable())
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


async def test_what_a_full_broker_does_not_bury_keeps_nobody_waiting(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many spent entries of one's own as are claimed at once, and nowhere to put them."""
    spent = consumer_module.CLAIMS_PER_TURN
    await publish(bus, *range(spent))
    for entry_id in await read(bus):
        for _ in range(2):
            await bus.claim(STREAM, GROUP, "one", entry_id, min_idle_secs=0)
    await publish(bus, spent)
    room = let_it_be_full(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually(lambda: handler.seen)
    assert await bus.length(DeadLetter.STREAM) == 0
    room.set()

    async def are_buried() -> bool:
        return await bus.length(DeadLetter.STREAM) == spent

    await eventually(are_buried)
    stop.set()
    await running
    assert handler.seen == [spent]


@pytest.mark.parametrize("stops", [False, True])
async def test_what_a_full_broker_does_not_book_is_booked_later_though_nothing_comes(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    await publish(bus, 1, 2)
    room = let_it_be_full(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))

    async def are_done() -> bool:
        pending = await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0)
        return len(handler.seen) == 2 and not pending

    await eventually(are_done)
    assert await bus.ledger() == {}
    room.set()
    if not stops:
        await eventually(bus.ledger)
    stop.set()
    await running
    assert await bus.ledger() == {"seen": 2}


async def test_what_a_full_broker_acknowledged_without_a_word_is_booked(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it has room when it is asked again: nothing hangs on that acknowledgement any more."""
    await publish(bus, 1)
    room = let_it_be_full(bus, monkeypatch)
    lost = lose_a_reply(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await lost.wait()
    room.set()
    await eventually(bus.ledger)
    stop.set()
    await running
    assert await bus.ledger() == {"seen": 1}


async def test_what_another_one_booked_while_the_broker_was_full_is_not_booked_again(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(bus, 1)
    (entry_id,) = await read(bus)
    frozen, heir = (acknowledging.Acknowledger(bus, STREAM, GROUP) for _ in range(2))
    await heir.write({entry_id: [Count("seen")]}, ())
    room = let_it_be_full(bus, monkeypatch)
    await frozen.write({entry_id: [Count("superseded")]}, ())
    room.set()
    assert await frozen.settle()
    assert await bus.ledger() == {"seen": 1}


async def test_what_is_owed_to_a_ledger_that_was_lost_is_not_booked_twice(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Whoever guards it takes the frames of a full broker for such that were on their way."""
    guard = LedgerGuard(bus)
    await publish(bus, 1, 2)
    await bus.write(Count("received", 2))
    await guard.look()
    ids = await read(bus)
    acknowledger = acknowledging.Acknowledger(bus, STREAM, GROUP)
    room = let_it_be_full(bus, monkeypatch)
    await acknowledger.write({entry_id: [Count("superseded")] for entry_id in ids}, ())
    await flush(bus, "" if isinstance(bus, MemoryBus) else request.getfixturevalue("broker_url"))
    room.set()
    await guard.look()
    assert await acknowledger.settle()
    assert await bus.ledger() == {"received": 2, "lost_flush": 2}


async def test_entries_that_are_tried_one_by_one_are_held_as_long_as_each_takes(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "STUCK_AFTER_SECS", 0.6)
    await publish(bus, 1, 2, 3, 4)
    heir, stop = Recorder(), asyncio.Event()

    class Picky(Recorder):
        """Slow, and does one after the other."""

        async def __call__(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
            if len(batch) > 1:
                raise ValueError("too many")
            await asyncio.sleep(0.4)
            return await super().__call__(batch)

    picky = Picky()
    workers = [
        consumer(bus, handler, name=name, min_idle_secs=0.3)
        for handler, name in ((picky, "picky"), (heir, "heir"))
    ]
    running = [asyncio.create_task(workers[0].run(stop))]
    await eventually(lambda: bus.pending(STREAM, GROUP, count=9, min_idle_secs=0))
    running.append(asyncio.create_task(workers[1].run(stop)))
    await eventually(lambda: picky.seen == [1, 2, 3, 4])
    stop.set()
    await asyncio.gather(*running)
    assert heir.seen == []


async def test_who_ends_while_the_broker_is_full_waits_a_little_for_what_it_owes(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else knows of it: the frame would be on its way for ever."""
    monkeypatch.setattr(acknowledging, "SETTLE_RETRY_SECS", 0.05)
    await publish(bus, 1)
    room = let_it_be_full(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually(lambda: handler.seen)
    stop.set()
    await asyncio.sleep(0.2)
    room.set()
    await running
    assert await bus.ledger() == {"seen": 1}


async def test_who_ends_says_what_a_full_broker_never_took(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acknowledging, "SETTLE_SECS", 0.1)
    monkeypatch.setattr(acknowledging, "SETTLE_RETRY_SECS", 0.05)
    await publish(bus, 1)
    let_it_be_full(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually(lambda: handler.seen)
    stop.set()
    await running
    assert "not booked, for the broker is full: {'seen': 1}" in caplog.text


async def test_who_ends_with_a_debt_while_the_broker_is_away_says_so_and_goes(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(bus, 1)
    let_it_be_full(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually(lambda: handler.seen)
    monkeypatch.setattr(bus, "write", away)
    stop.set()
    await asyncio.wait_for(running, acknowledging.SETTLE_SECS / 2)
    assert "not booked, for away: {'seen': 1}" in caplog.text


async def away(*_: object) -> None:
    raise BusUnavailable("away")


async def test_who_ends_does_not_wait_for_a_broker_that_hangs(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acknowledging, "SETTLE_SECS", 0.1)
    await publish(bus, 1)
    let_it_be_full(bus, monkeypatch)
    handler, stop = Recorder(), asyncio.Event()
    running = asyncio.create_task(consumer(bus, handler).run(stop))
    await eventually(lambda: handler.seen)

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(bus, "write", hang)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert "not booked" in caplog.text


async def test_dead_letters_are_few_where_they_are_large(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True frames in them would fill the broker, and nothing but a person empties it."""
    monkeypatch.setattr(acknowledging, "MAX_DEAD_BYTES", 3000)
    await bus.ensure_group(STREAM, GROUP)
    for size_bytes in (*[10] * 9, 700):
        await bus.publish(undecodable(b"x" * size_bytes))
    await consumer(bus, Recorder()).turn()
    assert await bus.length(DeadLetter.STREAM) == 3
    assert await bus.ledger() == {f"dead_{GROUP}": 10}


async def test_a_debt_does_not_go_with_an_entry_that_somebody_else_did(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.ensure_group(STREAM, GROUP)
    await publish(bus, 1)
    room = let_it_be_full(bus, monkeypatch)

    class Overtaken(Recorder):
        async def __call__(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
            if self.seen:
                await bus.write(Ack(STREAM, GROUP, [d.entry_id for d in batch]))
            return await super().__call__(batch)

    slow = consumer(bus, Overtaken())
    await slow.turn()
    room.set()
    await publish(bus, 2)
    await slow.turn()
    await asyncio.sleep(0.02)
    await slow.turn()
    assert await bus.ledger() == {"seen": 1}


class Slow(Recorder):
    """Takes as long for a batch as it is told to, as for large pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    async def __call__(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        await self.may_end.wait()
        return await super().__call__(batch)


@pytest.mark.parametrize(("stuck_after_secs", "by_heir"), [(60.0, []), (0.2, [1, 2])])
async def test_a_slow_consumer_keeps_what_it_has_in_hand_and_one_that_hangs_does_not(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, stuck_after_secs: float, by_heir: list[int]
) -> None:
    monkeypatch.setattr(holding, "STUCK_AFTER_SECS", stuck_after_secs)
    await publish(bus, 1, 2)
    slow, heir, stop = Slow(), Recorder(), asyncio.Event()
    min_idle_secs = 1.0

    def start(handler: Recorder, name: str) -> asyncio.Task[None]:
        worker = consumer(bus, handler, name=name, min_idle_secs=min_idle_secs)
        return asyncio.create_task(worker.run(stop))

    running = [start(slow, "slow")]
    await eventually(lambda: bus.pending(STREAM, GROUP, count=9, min_idle_secs=0))
    running.append(start(heir, "heir"))
    if by_heir:
        await eventually(lambda: heir.seen == by_heir)
    else:
        await asyncio.sleep(2 * min_idle_secs)
    slow.may_end.set()
    await eventually(lambda: slow.seen)
    stop.set()
    await asyncio.gather(*running)
    assert (slow.seen, heir.seen) == ([1, 2], by_heir)
    assert await bus.ledger() == {"seen": 2}
