"""The trainer as a service: what one run that fails may not do to those that come after."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from sgaps.bus.memory_bus import MemoryBus
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import SgapsError
from sgaps.metrics import trainer as metrics
from sgaps.recording import SegmentInfo, find_segments
from sgaps.service import Service
from sgaps.settings import Settings
from trainer import __main__ as process
from trainer import run
from trainer import worker as worker_module
from trainer.attempts import MOST_KILLED, Attempts, attempt, attempts_at
from trainer.run_lock import BeingTrained
from trainer.schedule import Progress
from trainer.worker import Worker
from training.toy_recordings import KEY, record, toy_settings
from waiting import PATIENCE_SECS, eventually


def service_of(settings: Settings) -> Service:
    return Service(name="trainer", settings=settings, bus=MemoryBus(), stop=asyncio.Event())


def service_with_sessions(tmp_path: Path) -> Service:
    """Enough to train at once."""
    settings = toy_settings(tmp_path, "training.min_new_frames=1")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=2)
    return service_of(settings)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), MemoryError()])
async def test_a_run_that_fails_is_told_and_counted_and_the_next_one_begins(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Exception,
) -> None:
    service, begun = service_with_sessions(tmp_path), []

    def failing(key: str, *_: Any, **__: Any) -> None:
        begun.append(key)
        if len(begun) == 2:
            service.stop.set()
        raise trouble

    monkeypatch.setattr(run, "train_key", failing)
    monkeypatch.setattr(worker_module, "LOOK_EVERY_SECS", 0.01)
    failed_before = metrics.FAILED._value.get()
    worker = Worker(service)
    looping = asyncio.create_task(worker.train_loop())
    await eventually(lambda: begun)
    record(service.settings.data.recordings_dir, "c", frames=2)
    worker._waiting_keys.add("toy")
    await asyncio.wait_for(looping, PATIENCE_SECS)
    assert begun == ["toy", "toy"]
    assert metrics.FAILED._value.get() == failed_before + 2
    assert "training of toy failed" in caplog.text
    assert "Traceback" in caplog.text


async def test_recordings_under_the_general_key_train_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else any client could change what serves all games."""
    service, begun = service_with_sessions(tmp_path), []
    recordings_dir = service.settings.data.recordings_dir
    (recordings_dir / KEY).rename(recordings_dir / DEFAULT_KEY)
    monkeypatch.setattr(run, "train_key", lambda key, *_, **__: begun.append(key))
    worker = Worker(service)
    for _ in range(2):
        await worker._train_if_enough(DEFAULT_KEY)
    assert not begun
    assert caplog.text.count("recordings of the key default train nothing") == 1


async def test_a_key_whose_runs_are_killed_waits_for_new_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a process without memory is: else it would be tried for ever, and no other key."""
    service, begun = service_with_sessions(tmp_path), []
    data = service.settings.data

    def failing(key: str, *_: Any, **__: Any) -> None:
        begun.append(key)
        raise SgapsError("enough")

    monkeypatch.setattr(run, "train_key", failing)
    data.checkpoints_dir.joinpath(KEY).mkdir(parents=True)
    for _ in range(MOST_KILLED):
        await Worker(service)._consider(KEY)
        dirs = [
            f"data.{name}={getattr(data, name)}" for name in ("recordings_dir", "checkpoints_dir")
        ]
        killed = subprocess.run([sys.executable, "-c", KILLED, *dirs], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert begun == [KEY] * MOST_KILLED
    failed_before = metrics.FAILED._value.get()
    worker = Worker(service)
    for _ in range(2):
        await worker._consider(KEY)
    assert begun == [KEY] * MOST_KILLED
    assert metrics.FAILED._value.get() == failed_before + 1
    assert caplog.text.count("was killed, for want of memory") == 1
    record(data.recordings_dir, "c", frames=2)
    await worker._consider(KEY)
    assert len(begun) == MOST_KILLED + 1


KILLED = f"""
import os, signal, sys, threading
from sgaps.recording import find_segments
from sgaps.settings import load_settings
from trainer.attempts import attempt

data = load_settings(sys.argv[1:]).data
with attempt("{KEY}", find_segments(data.recordings_dir), data, stop=threading.Event()):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_about_to_begin", [False, True])
async def test_a_run_that_was_told_to_stop_is_no_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_about_to_begin: bool
) -> None:
    """Though it is killed then: on a busy machine it may not come to its end in time."""
    service = service_with_sessions(tmp_path)
    data = service.settings.data
    data.checkpoints_dir.joinpath(KEY).mkdir(parents=True)
    is_there, is_counted, may_end = threading.Event(), threading.Event(), threading.Event()

    def slow(
        key: str, segments: Sequence[SegmentInfo], *_: Any, stop: threading.Event, **__: Any
    ) -> None:
        is_there.set()
        if is_about_to_begin:
            assert stop.wait(PATIENCE_SECS)
        with attempt(key, segments, data, stop=stop):
            is_counted.set()
            assert may_end.wait(3 * PATIENCE_SECS)  # or its own end would take the file away
        raise SgapsError("enough")

    monkeypatch.setattr(process, "_give_way", lambda: None)
    monkeypatch.setattr(run, "train_key", slow)
    trainer = asyncio.create_task(process.main(service))
    try:
        await eventually(is_there.is_set if is_about_to_begin else is_counted.is_set)
        service.stop.set()
        await eventually(is_counted.is_set)
        await eventually(lambda: attempts_at(KEY, data.checkpoints_dir) == Attempts())
    finally:
        may_end.set()
        await trainer


@pytest.mark.parametrize("trouble", [None, MemoryError()])
def test_a_run_that_ends_by_itself_was_not_killed(
    tmp_path: Path, trouble: Exception | None
) -> None:
    settings, seen = toy_settings(tmp_path, "training.max_epochs=1"), set[int]()
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)

    def step(_: Progress) -> None:
        seen.add(attempts_at(KEY, settings.data.checkpoints_dir).begun)
        if trouble:
            raise trouble

    segments = find_segments(settings.data.recordings_dir)
    with nullcontext() if trouble is None else pytest.raises(MemoryError):
        run.train_key(KEY, segments, settings, stop=threading.Event(), report=step)
    assert seen == {1}
    assert attempts_at(KEY, settings.data.checkpoints_dir) == Attempts()


def test_a_trainer_that_waits_has_loaded_no_torch() -> None:
    code = "import sys, trainer.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_trainer_whose_loop_has_ended_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Worker) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(process, "_give_way", lambda: None)
    monkeypatch.setattr(Worker, "train_loop", broken)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        await asyncio.wait_for(process.main(service_of(toy_settings(tmp_path))), 10)


async def test_a_key_that_is_trained_by_hand_is_considered_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, begun = service_with_sessions(tmp_path), []

    def busy_at_first(key: str, *_: Any, **__: Any) -> None:
        begun.append(key)
        if len(begun) == 1:
            raise BeingTrained(key)
        service.stop.set()
        raise SgapsError("enough")

    monkeypatch.setattr(run, "train_key", busy_at_first)
    monkeypatch.setattr(worker_module, "LOOK_EVERY_SECS", 0.01)
    monkeypatch.setattr(worker_module, "BUSY_RETRY_SECS", 0.01)
    failed_before = metrics.FAILED._value.get()
    await asyncio.wait_for(Worker(service).train_loop(), 10)
    assert begun == ["toy", "toy"]
    assert metrics.FAILED._value.get() == failed_before + 1
