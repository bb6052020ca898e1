"""The reconstructor's worker: where a pass is done, and what a model is shown."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

import reconstructor.worker
from reconstructor.frame import FrameInput, Reconstruction
from reconstructor.worker import Worker
from sgaps.bus import Delivery, MemoryBus, Publish
from sgaps.messages import FrameReconstructed
from sgaps.service import Service
from sgaps.settings import load_settings
from unit.accepted_frames import frame, store


class TimedModel:
    """Takes as long as it is told to; notes in which thread it was, and what it was shown."""

    frames_at_once = 4

    def __init__(self) -> None:
        self.secs = 0.0
        self.threads: list[int] = []
        self.ages: list[list[int]] = []
        self.at_hand = True

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        self.threads.append(threading.get_ident())
        self.ages += [[age for age, _ in shown.history] for shown in frames]
        time.sleep(self.secs)
        rebuilt = Reconstruction(
            image=np.zeros((6, 8), np.uint8),
            grid=(1, 1),
            entropy=None,
            log_error=None,
            predicted_psnr_db=None,
            model_version="v1",
        )
        return [rebuilt] * len(frames)

    def is_at_hand(self, key: str) -> bool:
        return self.at_hand

    def serving(self) -> dict[str, str]:
        return {}

    def refresh(self) -> int:
        return 0

    def warm_up(self) -> None:
        return


def worker_of(bus: MemoryBus, model: TimedModel, *overrides: str) -> Worker:
    settings = load_settings(overrides, environment={})
    service = Service(name="reconstructor", settings=settings, bus=bus, stop=asyncio.Event())
    return Worker(service, model)


async def test_the_loop_waits_for_a_pass_only_where_the_last_one_was_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first may be slow; a slow one holds the loop up once, and the next has a thread."""
    monkeypatch.setattr(reconstructor.worker, "QUICK_SECS", 0.3)
    bus, model = MemoryBus(), TimedModel()
    worker = worker_of(bus, model)
    of_the_loop = []
    for frame_id, secs in enumerate([0, 0, 0.4, 0, 0]):
        model.secs = secs
        accepted = frame(frame_id, frame_id - 1)
        await worker.handle([Delivery(entry_id="1-0", message=accepted)])
        of_the_loop.append(model.threads[-1] == threading.get_ident())
    assert of_the_loop == [False, True, True, False, True]


async def test_a_larger_pass_than_was_quick_has_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of a few pixels says nothing of a whole screen."""
    monkeypatch.setattr(reconstructor.worker, "QUICK_SECS", 0.3)
    bus, model = MemoryBus(), TimedModel()
    worker = worker_of(bus, model)
    of_the_loop = []
    for batch in (["a"], ["a"], ["a", "b"], ["a", "b"], ["a"]):
        deliveries = [
            Delivery(entry_id=f"{i}-0", message=frame(0, -1, session_id))
            for i, session_id in enumerate(batch)
        ]
        await worker.handle(deliveries)
        of_the_loop.append(model.threads[-1] == threading.get_ident())
    assert of_the_loop == [False, True, False, True, True]


async def test_a_pass_that_has_to_load_its_model_first_has_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However quick those before it were: heartbeats would wait for half a second."""
    monkeypatch.setattr(reconstructor.worker, "QUICK_SECS", 0.3)
    bus, model = MemoryBus(), TimedModel()
    worker = worker_of(bus, model)
    of_the_loop = []
    for frame_id, at_hand in enumerate([True, True, False, True]):
        model.at_hand = at_hand
        await worker.handle([Delivery(entry_id="1-0", message=frame(frame_id, frame_id - 1))])
        of_the_loop.append(model.threads[-1] == threading.get_ident())
    assert of_the_loop == [False, True, False, True]


async def test_a_model_is_shown_older_samples_with_their_age_and_its_answer_published() -> None:
    bus, model = MemoryBus(), TimedModel()
    worker = worker_of(bus, model)
    for frame_id in (3, 5):
        await store(bus, frame(frame_id))
    outcome = await worker.handle([Delivery(entry_id="1-0", message=frame(5, 3))])
    assert model.ages == [[2]]
    (published,) = outcome.answers["1-0"]
    assert isinstance(published, Publish)
    assert isinstance(published.message, FrameReconstructed)
    assert (published.message.frame_id, published.message.model_version) == (5, "v1")


async def test_a_model_is_shown_all_that_the_broker_has() -> None:
    """Its manifest may ask for more than what is trained here now."""
    bus, model = MemoryBus(), TimedModel()
    worker = worker_of(bus, model, "model.history_frames=1", "server.history_frames=3")
    for frame_id in range(5):
        await store(bus, frame(frame_id))
        accepted = frame(frame_id, frame_id - 1)
        await worker.handle([Delivery(entry_id="1-0", message=accepted)])
    assert model.ages[-1] == [1, 2, 3]
