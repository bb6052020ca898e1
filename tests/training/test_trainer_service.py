"""The trainer as a service: what one run that fails may not do to those that come after."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sgaps.bus.memory_bus import MemoryBus
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import SgapsError
from sgaps.metrics import trainer as metrics
from sgaps.service import Service
from sgaps.settings import Settings
from trainer import __main__ as process
from trainer import run
from trainer import worker as worker_module
from trainer.run_lock import BeingTrained
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
