"""Probes are in no account, whatever becomes of them; over both buses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest

from contract.conftest import (
    GROUP,
    STREAM,
    Recorder,
    bus_settings,
    consumer,
    frame,
    publish,
    read,
    trim,
)
from gateway.probe import probe_frame
from sgaps.bus import (
    Ack,
    Bus,
    Consumer,
    Delivery,
    KeepNewest,
    MemoryBus,
    Operation,
    Outcome,
    Publish,
    Put,
)
from sgaps.errors import BusFull
from sgaps.messages import CheckpointPublished, DeadLetter, FrameAccepted, FrameReconstructed
from sgaps.probe import is_probe, is_probe_entry, probe_session
from sgaps.protocol.ids import is_valid_id


async def publish_probes(bus: Bus, *frame_ids: int, gateway_id: str = "g") -> None:
    await bus.write(*(Publish(probe_frame(gateway_id, frame_id)) for frame_id in frame_ids))


def test_no_client_can_have_the_session_of_a_probe() -> None:
    assert is_probe(probe_session("main"))
    assert not is_valid_id(probe_session("main"))


def test_a_probe_is_known_before_it_is_decoded() -> None:
    assert is_probe_entry(probe_frame("main", 1).encode())
    assert not is_probe_entry(frame(1).encode())
    for other in (b"", b"\xff", b"not MessagePack", msgspec.msgpack.encode({"session_id": 3})):
        assert not is_probe_entry(other)


async def test_a_superseded_probe_is_not_counted(bus: Bus) -> None:
    await publish_probes(bus, 1, 2, 3)
    await publish(bus, 1, 2)
    handler = Recorder()
    await bus.ensure_group(STREAM, GROUP)
    await newest(bus, handler, sessions=4).turn()
    assert sorted(handler.seen) == [2, 3]
    assert (await bus.ledger())["superseded"] == 1
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []


async def test_a_probe_takes_no_frames_place(bus: Bus) -> None:
    """Two sessions fit into a turn: both are served, and the probes of two gateways beside them."""
    await publish_probes(bus, 100)
    await publish_probes(bus, 200, gateway_id="h")
    for session in range(3):
        await publish(bus, session, session_id=f"s{session}")
    handler = Recorder()
    await bus.ensure_group(STREAM, GROUP)
    await newest(bus, handler, sessions=2).turn()
    assert handler.seen == [0, 1, 100, 200]


def newest(bus: Bus, handler: Recorder, *, sessions: int) -> Consumer[FrameAccepted]:
    return consumer(bus, handler, policy=KeepNewest(sessions))


async def test_a_poisoned_probe_is_buried_and_not_counted(bus: Bus) -> None:
    await publish_probes(bus, 1)
    await bus.ensure_group(STREAM, GROUP)
    worker = consumer(bus, Recorder(poison=frozenset({1})))
    for _ in range(5):
        await worker.turn()
        await asyncio.sleep(0.06)
    assert await bus.length(DeadLetter.STREAM) == 1
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []
    assert await bus.ledger() == {}


@pytest.mark.parametrize("is_in_hand", [False, True])
async def test_an_expired_probe_is_not_counted(bus: Bus, is_in_hand: bool) -> None:
    await publish_probes(bus, 1)
    await publish(bus, 2)
    await publish_probes(bus, 3)
    await bus.ensure_group(STREAM, "slow")
    if is_in_hand:
        await bus.read(STREAM, "slow", "dead", count=2, block_secs=0.02)
    await bus.write(Ack(STREAM, GROUP, await read(bus)))
    await asyncio.sleep(0.06)
    await trim(bus, max_backlog=0)
    assert await bus.length(STREAM) == 0
    assert await bus.pending(STREAM, "slow", count=9, min_idle_secs=0.0) == []
    assert await bus.ledger() == {"expired": 1}


class FullBus(MemoryBus):
    """Takes no more answers."""

    async def write(self, *operations: Operation) -> None:
        if any(isinstance(o, Ack) and o.then for o in operations) and self.is_full:
            raise BusFull("full")
        await super().write(*operations)

    is_full = True


async def test_a_probes_answer_that_a_full_broker_refused_is_not_counted() -> None:
    bus = FullBus()

    async def answer(batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        return Outcome(answers={d.entry_id: [Publish(reconstructed(d.message))] for d in batch})

    await bus.ensure_group(STREAM, GROUP)
    worker = Consumer(
        bus, FrameAccepted, group=GROUP, name="one", settings=bus_settings(), handle=answer
    )
    await publish_probes(bus, 1)
    await publish(bus, 2)
    await worker.turn()
    bus.is_full = False
    await asyncio.sleep(0.02)
    await worker.turn()
    assert await bus.ledger() == {"broker_full": 1}


def reconstructed(frame: FrameAccepted) -> FrameReconstructed:
    return FrameReconstructed(
        session_id=frame.session_id,
        gateway_id=frame.gateway_id,
        frame_id=frame.frame_id,
        width=frame.width,
        height=frame.height,
        sample_count=1,
        grid_width=0,
        grid_height=0,
        entropy_bytes=b"",
        log_error_bytes=b"",
        predicted_psnr_db=None,
        model_version="",
        received_at_secs=time.time(),
        queue_secs=0.0,
        inference_secs=0.0,
    )


def test_messages_without_a_session_are_no_probes() -> None:
    assert not CheckpointPublished(checkpoint_key="k", model_version="v", val_psnr_db=1).is_probe


class TakesNoMarks(MemoryBus):
    """A full broker: it acknowledges, and no more."""

    is_full = True

    async def write(self, *operations: Operation) -> None:
        if any(isinstance(o, Put) for o in operations) and self.is_full:
            raise BusFull("full")
        await super().write(*operations)


async def test_marks_that_a_full_broker_refused_are_written_later() -> None:
    """Though no entry comes any more; and of each key the newest."""
    bus = TakesNoMarks()

    async def mark(batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        newest = str(batch[-1].message.frame_id).encode()
        return Outcome(marks=[Put("sgaps:session:s", {"newest": newest}, 60)])

    await bus.ensure_group(STREAM, GROUP)
    settings = bus_settings()
    worker = Consumer(bus, FrameAccepted, group=GROUP, name="one", settings=settings, handle=mark)
    for frame_id in (1, 2):
        await publish(bus, frame_id)
        await worker.turn()
    assert await bus.pending(STREAM, GROUP, count=9, min_idle_secs=0.0) == []
    assert await bus.hashes(["sgaps:session:s"]) == [{}]
    bus.is_full = False
    await asyncio.sleep(settings.min_idle_secs)
    await worker.turn()
    assert await bus.hashes(["sgaps:session:s"]) == [{"newest": b"2"}]
