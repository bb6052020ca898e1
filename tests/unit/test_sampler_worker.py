"""The sampler's worker: it draws while the broker answers, and mixes no two sessions up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from redis import Redis

from sampler import worker
from sampler.choose import Draft, StoredCoordinates, choose, draft
from sampler.worker import Worker
from sgaps.bus import Bus, Delivery, MemoryBus, Publish, Put, RedisBus
from sgaps.errors import MessageError
from sgaps.keys import sampler_key
from sgaps.messages import CoordinatesChosen, FrameReconstructed
from sgaps.service import Service
from sgaps.settings import Settings, load_settings
from unit.test_choose import frame_of

TIMEOUT_SECS = 10.0
SESSIONS = ("a", "b", "c")
KEPT = load_settings(["mask_update.strategy=fixed"], environment={})
"""A session keeps its set, so that an answer tells whose set it was made from."""


def worker_of(bus: Bus, settings: Settings) -> Worker:
    return Worker(Service(name="sampler", settings=settings, bus=bus, stop=asyncio.Event()))


def batch_of(frame_id: int) -> list[Delivery[FrameReconstructed]]:
    return [
        Delivery(entry_id=f"{number}-0", message=frame_of(frame_id, session_id=name))
        for number, name in enumerate(SESSIONS)
    ]


async def answers(sampler: Worker, frame_id: int) -> dict[str, CoordinatesChosen]:
    """Session → its answer; what is to be stored, is."""
    outcome = await sampler.handle(batch_of(frame_id))
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


@pytest.fixture
async def redis_bus(broker_url: str) -> AsyncIterator[RedisBus]:
    with Redis.from_url(broker_url) as redis:
        redis.flushall()
    bus = RedisBus(KEPT.bus.model_copy(update={"url": broker_url}))
    yield bus
    await bus.close()


class Questions:
    """How often the broker was asked for a hash, as it says itself to who stops the loop."""

    def __init__(self, broker_url: str) -> None:
        self._redis = Redis.from_url(broker_url)

    def count(self) -> int:
        asked = self._redis.info("commandstats").get("cmdstat_hgetall", {"calls": 0})
        return int(asked["calls"])

    def arrive(self, count: int) -> bool:
        """Whether so many come while this thread does nothing else."""
        ends_at_secs = time.monotonic() + TIMEOUT_SECS
        while self.count() < count:
            if time.monotonic() > ends_at_secs:
                return False
            time.sleep(0.001)
        return True

    def close(self) -> None:
        self._redis.close()


async def test_the_broker_has_been_asked_before_the_first_set_is_drawn(
    redis_bus: RedisBus, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler, questions = worker_of(redis_bus, KEPT), Questions(broker_url)
    await answers(sampler, 1)  # which connects
    before = questions.count()
    arrived: list[bool] = []

    def draw_when_asked(frame: FrameReconstructed, settings: Settings) -> Draft:
        arrived.append(questions.arrive(before + len(SESSIONS)))
        assert arrived[0]  # and none of the others waits as long
        return draft(frame, settings)

    monkeypatch.setattr(worker, "draft", draw_when_asked)
    await answers(sampler, 2)
    assert arrived == [True] * len(SESSIONS)
    questions.close()


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


class SlowBus(MemoryBus):
    """Notes when it was asked for hashes and when it answered, some turns of the loop later."""

    def __init__(self, events: list[str], turns: int) -> None:
        super().__init__()
        self.events = events
        self.turns = turns

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        self.events.append("asked")
        for _ in range(self.turns):
            await asyncio.sleep(0)
        found = await super().hashes(keys)
        self.events.append("answered")
        return found


@pytest.mark.parametrize("turns", [0, 1, 2, 9])
async def test_all_is_drawn_between_question_and_choice_however_late_the_answer(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    events: list[str] = []

    def note_draft(frame: FrameReconstructed, settings: Settings) -> Draft:
        events.append("drawn")
        return draft(frame, settings)

    def note_choice(
        frame: FrameReconstructed,
        drafted: Draft,
        stored: StoredCoordinates | None,
        settings: Settings,
    ) -> tuple[CoordinatesChosen, StoredCoordinates]:
        events.append("chosen")
        return choose(frame, drafted, stored, settings)

    monkeypatch.setattr(worker, "draft", note_draft)
    monkeypatch.setattr(worker, "choose", note_choice)
    await answers(worker_of(SlowBus(events, turns), KEPT), 1)
    assert events[0] == "asked"
    assert sorted(events[1:5]) == ["answered", *["drawn"] * 3]
    assert events[5:] == ["chosen"] * 3
    if turns > 1:
        assert events[1:4] == ["drawn"] * 3
