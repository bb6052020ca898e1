"""Both buses, and what their tests share: messages, handlers, a consumer that is told to fail."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from redis.asyncio import Redis

from sgaps.bus import (
    Ack,
    Bus,
    Consumer,
    Count,
    Delivery,
    MemoryBus,
    Operation,
    Outcome,
    Publish,
    RedisBus,
    Trimmer,
)
from sgaps.bus.consumer import Handler, nothing_to_prepare
from sgaps.bus.policy import Policy
from sgaps.errors import BusFull, BusUnavailable
from sgaps.messages import FrameAccepted
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
    handler: Handler[FrameAccepted],
    *,
    name: str = "one",
    prepare: Callable[[FrameAccepted], Awaitable[None]] = nothing_to_prepare,
    policy: Policy[FrameAccepted] | None = None,
    group: str = GROUP,
    min_idle_secs: float = 0.05,
) -> Consumer[FrameAccepted]:
    return Consumer(
        bus,
        FrameAccepted,
        group=group,
        name=name,
        settings=bus_settings().model_copy(update={"min_idle_secs": min_idle_secs}),
        handle=handler,
        prepare=prepare,
        policy=policy,
    )


def let_it_be_full(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """It takes acknowledgements alone, as a full broker does; until the event is set."""
    write, room = bus.write, asyncio.Event()

    async def write_if_there_is_room(*operations: Operation) -> None:
        await asyncio.sleep(0)
        if not room.is_set() and not all(isinstance(o, Ack) and not o.then for o in operations):
            raise BusFull("full")
        await write(*operations)

    monkeypatch.setattr(bus, "write", write_if_there_is_room)
    return room


def lose_a_reply(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """It acknowledges, once without a word of it; the event says that it did."""
    acknowledge, lost = bus.acknowledge, asyncio.Event()

    async def in_silence(stream: str, group: str, entry_ids: Sequence[str]) -> set[str]:
        done = await acknowledge(stream, group, entry_ids)
        if not lost.is_set():
            lost.set()
            raise BusUnavailable("nothing came back")
        return done

    monkeypatch.setattr(bus, "acknowledge", in_silence)
    return lost


async def trim(bus: Bus, max_backlog: int) -> None:
    settings = bus_settings(max_backlog=max_backlog)
    await Trimmer(bus, settings).trim_recorded(STREAM, must=GROUP, may="slow")
