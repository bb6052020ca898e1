"""The sampler's worker: it asks for what it needs, and mixes no two sessions up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from redis import Redis

from sampler import worker
from sampler.choose import Draft, choose, draft
from sampler.worker import Worker
from sgaps.bus import Bus, Delivery, MemoryBus, Publish, Put, RedisBus
from sgaps.errors import MessageError
from sgaps.keys import sampler_key
from sgaps.messages import CoordinatesChosen, FrameReconstructed
from sgaps.service import Service
from sgaps.settings import Settings, load_settings
from unit.asked_bus import AskedBus
from unit.reconstructed_frames import frame_of

SESSIONS = ("a", "b", "c")
KEPT = load_settings(["mask_update.strategy=fixed"], environment={})
"""A session keeps its set, so that an answer tells whose set it was made from."""
ADAPTIVE = load_settings(["mask_update.strategy=adaptive"], environment={})
"""A poor picture makes a new set due, a good one every second frame."""


def worker_of(bus: Bus, settings: Settings) -> Worker:
    return Worker(Service(name="sampler", settings=settings, bus=bus, stop=asyncio.Event()))


async def answers(
    sampler: Worker, frame_id: int, *, psnr_db: Mapping[str, float] | None = None
) -> dict[str, CoordinatesChosen]:
    """Session → its answer; what is to be stored, is. `psnr_db`: what each frame is held to be."""
    frames = [
        frame_of(frame_id, session_id=name, psnr_db=psnr_db[name] if psnr_db else None)
        for name in SESSIONS
    ]
    outcome = await sampler.handle(
        [Delivery(entry_id=f"{n}-0", message=frame) for n, frame in enumerate(frames)]
    )
    chosen: dict[str, CoordinatesChosen] = {}
    for effects in outcome.answers.values():
        publish, put = effects
        assert isinstance(publish, Publish)
        assert isinstance(publish.message, CoordinatesChosen)
        assert isinstance(put, Put)
        assert put.key == sampler_key(publish.message.session_id)
        chosen[publish.message.session_id] = publish.message
        await sampler._bus.write(put)
    return chosen


@pytest.mark.parametrize("draws", [draft, choose])
async def test_a_batch_of_large_pictures_lets_the_loop_go_on(
    draws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats of a sampler that has hundreds of sessions to catch up with would be late.

    A set is drawn at once where it is due by its picture, and later where by its age.
    """
    turns: list[int] = []

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        turns.append(beats)
        return draws(*arguments)

    monkeypatch.setattr(worker, draws.__name__, slow)
    monkeypatch.setattr(worker, "HOLDS_LOOP_SECS", 0.01)
    beats = 0
    batch = asyncio.create_task(answers(worker_of(MemoryBus(), KEPT), 1))
    while not batch.done():
        beats += 1
        await asyncio.sleep(0)
    assert len(turns) == len(SESSIONS)
    assert turns == sorted(set(turns))


@pytest.fixture
async def redis_bus(broker_url: str) -> AsyncIterator[RedisBus]:
    with Redis.from_url(broker_url) as redis:
        redis.flushall()
    bus = RedisBus(KEPT.bus.model_copy(update={"url": broker_url}))
    yield bus
    await bus.close()


@pytest.mark.parametrize("bus_kind", ["redis", "memory"])
async def test_each_session_is_answered_from_its_own_set(
    redis_bus: RedisBus, bus_kind: str
) -> None:
    sampler = worker_of(redis_bus if bus_kind == "redis" else MemoryBus(), KEPT)
    first = await answers(sampler, 1)
    again = await answers(sampler, 2)
    assert len({answer.coords_bytes for answer in first.values()}) == len(SESSIONS)
    for name in SESSIONS:
        assert (first[name].frame_id, again[name].frame_id) == (1, 2)
        assert again[name].coords_bytes == first[name].coords_bytes


async def test_a_frame_that_cannot_be_drawn_from_leaves_the_bus_usable(
    redis_bus: RedisBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = worker_of(redis_bus, KEPT)
    first = await answers(sampler, 1)

    def refuse(frame: FrameReconstructed, settings: Settings) -> Draft:
        raise MessageError("an odd map")

    with monkeypatch.context() as patched:
        patched.setattr(worker, "draft", refuse)
        with pytest.raises(MessageError, match="an odd map"):
            await answers(sampler, 2)
    again = await answers(sampler, 3)
    assert [again[name].coords_bytes for name in SESSIONS] == [
        first[name].coords_bytes for name in SESSIONS
    ]


POOR_DB, GOOD_DB = 20.0, 99.0


async def test_only_sessions_that_may_keep_their_set_are_asked_for() -> None:
    """Where every picture is poor all get a new one, and nobody waits for the broker."""
    bus = AskedBus()
    sampler = worker_of(bus, ADAPTIVE)
    poor = await answers(sampler, 1, psnr_db=dict.fromkeys(SESSIONS, POOR_DB))
    assert bus.trips == []
    mixed = await answers(sampler, 2, psnr_db={"a": POOR_DB, "b": GOOD_DB, "c": GOOD_DB})
    assert bus.trips == [[sampler_key("b"), sampler_key("c")]]
    changed = [name for name in SESSIONS if mixed[name].coords_bytes != poor[name].coords_bytes]
    assert changed == ["a"]


@pytest.mark.parametrize("bus_kind", ["redis", "memory"])
async def test_a_late_frame_takes_no_session_back_to_an_older_set(
    redis_bus: RedisBus, bus_kind: str
) -> None:
    """Not even one that gets a set of its own, for which nobody asked what the session has."""
    sampler = worker_of(redis_bus if bus_kind == "redis" else MemoryBus(), ADAPTIVE)
    newest = await answers(sampler, 9, psnr_db=dict.fromkeys(SESSIONS, POOR_DB))
    await answers(sampler, 7, psnr_db=dict.fromkeys(SESSIONS, POOR_DB))
    after = await answers(sampler, 10, psnr_db=dict.fromkeys(SESSIONS, GOOD_DB))
    for name in SESSIONS:
        assert after[name].coordinate_set_id == newest[name].coordinate_set_id
        assert after[name].coords_bytes == newest[name].coords_bytes
