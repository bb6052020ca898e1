"""Whatever happens to broker and consumers, in any order: each frame ends once, in one way.

The same state machine runs over both buses. On the real broker it kills the server too.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from contract.conftest import bus_settings, frame
from ports import free_port
from sgaps.bus import (
    Ack,
    Bus,
    Consumer,
    Count,
    Delivery,
    Entry,
    MemoryBus,
    Outcome,
    Publish,
    RedisBus,
    id_order,
)
from sgaps.errors import BusUnavailable
from sgaps.messages import CoordinatesChosen, DeadLetter, FrameAccepted
from sgaps_cli import broker

STREAM, GROUP = FrameAccepted.STREAM, "tested"
ANSWERS = CoordinatesChosen.stream_of("g")
NAMES = st.sampled_from(["one", "two", "three"])

T = TypeVar("T")


class Died(BaseException):
    """What stands for kill -9: no `except Exception` sees it."""


def answer(frame_id: int) -> CoordinatesChosen:
    return CoordinatesChosen(
        session_id="s",
        gateway_id="g",
        frame_id=frame_id,
        coordinate_set_id=0,
        coords_bytes=b"",
        importance_width=0,
        importance_height=0,
        importance=b"",
        model_version="",
        predicted_psnr_db=None,
        received_at_secs=0.0,
    )


class DeliveryMachine(RuleBasedStateMachine):
    """Frames go in at one end; three consumers, as careless as they may be, answer them."""

    new_bus: ClassVar[Callable[[], Bus]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bus = type(self).new_bus()
        self.frames = 0
        self.on_their_way: set[int] = set()
        """Accepted since the last flush, without an end as far as the machine knows."""
        self.in_hand: dict[str, list[Entry]] = {"one": [], "two": [], "three": []}
        self.last_read_id = Bus.START
        self.wait(self.flush_bus)

    def wait(self, step: Callable[[], Awaitable[T]]) -> T:
        async def patiently() -> T:
            for _ in range(100):
                try:
                    return await step()
                except BusUnavailable:  # a connection that the broker took along
                    await asyncio.sleep(0.02)
            raise AssertionError("the broker does not come back")

        return self.runner.run(patiently())

    async def flush_bus(self) -> None:
        assert isinstance(self.bus, MemoryBus)
        await self.bus.flush()

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        ids = range(self.frames, self.frames + count)
        self.frames += count
        self.on_their_way |= set(ids)
        operations = [op for i in ids for op in (Publish(frame(i)), Count("received"))]
        self.wait(lambda: self.bus.write(*operations))

    @rule(name=NAMES, count=st.integers(1, 5))
    def read(self, name: str, count: int) -> None:
        self.wait(lambda: self.bus.ensure_group(STREAM, GROUP))
        entries = self.wait(lambda: self.bus.read(STREAM, GROUP, name, count=count, block_secs=0))
        ids = [self.last_read_id, *(entry.entry_id for entry in entries)]
        assert ids == sorted(set(ids), key=id_order), "new entries come once, and in order"
        self.last_read_id = ids[-1]
        self.in_hand[name] += entries

    @rule(name=NAMES)
    def claim(self, name: str) -> None:
        """As if the others were thought dead; they are not, and go on."""
        rows = self.wait(lambda: self.bus.pending(STREAM, GROUP, count=3, min_idle_secs=0))
        for row in rows:
            entry = self.wait(
                lambda row=row: self.bus.claim(  # type: ignore[misc]
                    STREAM, GROUP, name, row.entry_id, min_idle_secs=0
                )
            )
            if entry is not None:
                self.in_hand[name].append(entry)

    @rule(name=NAMES, twice=st.booleans())
    def finish(self, name: str, twice: bool) -> None:
        """Twice, where the first answer of the broker was lost."""
        acks = [
            Ack(STREAM, GROUP, [e.entry_id], [Publish(answer(frame_id_of(e))), Count("done")])
            for e in self.in_hand[name]
        ]
        for _ in range(1 + twice):
            self.wait(lambda: self.bus.write(*acks))
        self.in_hand[name].clear()

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        self.in_hand[name].clear()

    @rule(name=NAMES, fate=st.sampled_from(["does", "fails", "dies"]))
    def turn(self, name: str, fate: str) -> None:
        """A turn of the real consumer, which also claims and buries."""

        async def handle(batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
            if fate == "dies":
                raise Died
            if fate == "fails":
                raise ValueError(fate)
            return Outcome(
                answers={
                    d.entry_id: [Publish(answer(d.message.frame_id)), Count("done")] for d in batch
                }
            )

        try:
            self.wait(lambda: self.turned(name, handle))
        except Died:
            self.in_hand[name].clear()
        self.last_read_id = self.wait(lambda: self.bus.delivered(STREAM, GROUP))

    async def turned(
        self,
        name: str,
        handle: Callable[[Sequence[Delivery[FrameAccepted]]], Coroutine[Any, Any, Outcome]],
    ) -> None:
        await self.bus.ensure_group(STREAM, GROUP)
        fast = bus_settings().model_copy(update={"min_idle_secs": 0.001, "block_secs": 0.001})
        await Consumer(
            self.bus, FrameAccepted, group=GROUP, name=name, settings=fast, handle=handle
        ).turn()

    @rule()
    def trim(self) -> None:
        floor = self.wait(lambda: self.bus.floor(STREAM, GROUP))
        self.wait(lambda: self.bus.trim(STREAM, floor))

    @rule()
    def flush(self) -> None:
        self.wait(self.flush_bus)
        self.on_their_way.clear()
        self.last_read_id = Bus.START

    @invariant()
    def each_frame_has_at_most_one_end_and_the_ledger_knows_it(self) -> None:
        ended = self.ends()
        assert not [frame_id for frame_id, times in ended.items() if times > 1]
        ledger = self.wait(self.bus.ledger)
        assert ledger.get("done", 0) + ledger.get(f"dead_{GROUP}", 0) == len(ended)
        unended = self.on_their_way - set(ended)
        assert ledger.get("received", 0) - len(ended) == len(unended)
        kept = {frame_id_of(entry) for entry in self.entries(STREAM)}
        assert unended <= kept, "nothing goes that has not come to its end"

    def ends(self) -> Counter[int]:
        answered = [CoordinatesChosen.decode(e.data).frame_id for e in self.entries(ANSWERS)]
        letters = [DeadLetter.decode(e.data) for e in self.entries(DeadLetter.STREAM)]
        return Counter(answered + [FrameAccepted.decode(x.data).frame_id for x in letters])

    def entries(self, stream: str) -> list[Entry]:
        return self.wait(lambda: self.bus.tail(stream, Bus.START, count=10_000, block_secs=0))

    def teardown(self) -> None:
        for _ in range(3 + 2 * self.frames):  # a turn does what is new, and claims some
            self.turn("heir", "does")
        assert set(self.ends()) == self.on_their_way, "every frame came to an end"
        assert self.wait(lambda: self.bus.pending(STREAM, GROUP, count=9, min_idle_secs=0)) == []
        self.wait(self.bus.close)
        self.runner.close()


def frame_id_of(entry: Entry) -> int:
    return FrameAccepted.decode(entry.data).frame_id


class MemoryDelivery(DeliveryMachine):
    new_bus = MemoryBus


def test_delivery_over_the_memory_bus() -> None:
    run_state_machine_as_test(
        MemoryDelivery,
        settings=hypothesis_settings(max_examples=100, stateful_step_count=40),
    )


@pytest.fixture(scope="module")
def own_broker() -> Iterator[KillableBroker]:
    """Not the one of the other tests: this one is killed."""
    with tempfile.TemporaryDirectory() as folder:
        killable = KillableBroker(Path(folder))
        yield killable
        killable.server.stop()


class KillableBroker:
    """A Valkey with an append-only file that comes back on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.server = self.start()

    def start(self) -> broker.Broker:
        return broker.start(
            broker.find_program(), self.folder, log_file=self.folder / "log", port=self.port
        )

    def kill(self) -> None:
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()
        self.server = self.start()


def test_delivery_over_a_real_broker_that_is_killed(own_broker: KillableBroker) -> None:
    class RealDelivery(DeliveryMachine):
        kills = 0

        @staticmethod
        def new_bus() -> Bus:
            return RedisBus(bus_settings(own_broker.server.url))

        async def flush_bus(self) -> None:
            with Redis.from_url(own_broker.server.url) as redis:
                redis.flushall()

        @precondition(lambda self: self.kills < 2)
        @rule()
        def restart(self) -> None:
            self.kills += 1
            own_broker.kill()

    run_state_machine_as_test(
        RealDelivery,
        settings=hypothesis_settings(max_examples=20, stateful_step_count=25),
    )
