"""A run as a whole: cut off, taken up, and what it is taken up with."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from sgaps import durable
from sgaps.errors import CheckpointError, SgapsError
from sgaps.model import build_model, prepare_cpu
from sgaps.recording import find_segments
from sgaps.settings import Settings
from trainer import fit as fit_module
from trainer.dataset import Example
from trainer.fit import fit
from trainer.loader import LoaderKilled, load
from trainer.run import UNFINISHED_NAME, RunOptions, RunReport, train_key
from trainer.run_log import RunLog
from trainer.run_memory import RunMemory
from trainer.saved_run import (
    CannotResume,
    RunHeader,
    SavedRun,
    WouldBeLost,
    load_run,
    save_run,
    settings_of,
)
from trainer.schedule import Progress
from trainer.split import split_by_session
from trainer.stepper import Stepper, TrainingFailed
from training.toy_recordings import KEY, dataset_of, record, toy_settings

BY_HAND = RunOptions(resumable=True)


def test_a_run_plans_its_batches_by_the_memory_there_was_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "recordings", "a", frames=4)
    asked = []

    def little(*_: object) -> int:
        asked.append(1)
        return 1  # room for one picture

    monkeypatch.setattr(fit_module, "most_pixels_of_a_batch", little)
    run = Run(tmp_path, toy_settings(tmp_path, "training.max_epochs=2"))
    run()
    assert (run.report.steps, len(asked)) == (8, 1)


class Run:
    """Fits the toy model; stops after so many steps where told to."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.path = root / "unfinished.safetensors"
        self.settings = settings
        self.dataset = dataset_of(find_segments(root / "recordings", KEY))

    def __call__(self, *, stop_after: int = 10**9, resume: bool = False) -> dict[str, Tensor]:
        stop = threading.Event()

        def report(progress: Progress) -> None:
            if progress.step == stop_after:
                stop.set()

        prepare_cpu(1)
        torch.manual_seed(0)
        model = build_model(self.settings.model)
        memory = self.memory(resume=resume)
        self.report = fit(
            model, self.dataset, self.settings, stop=stop, report=report, memory=memory
        )
        return model.state_dict()

    def memory(
        self, *, resume: bool, champion: str = "untrained", versions: Collection[str] = ()
    ) -> RunMemory:
        settings = self.settings
        return RunMemory(
            self.path,
            header=RunHeader(
                champion_version=champion,
                model=settings.model,
                val_sessions=("b",),
                learned_by=settings_of(settings),
            ),
            taken_up=(
                load_run(self.path, champion_version=champion, settings=settings, versions=versions)
                if resume
                else None
            ),
            writes=True,
        )


@pytest.mark.parametrize(("accumulation", "cut_after"), [(1, 5), (2, 5)])
def test_a_run_cut_off_and_taken_up_ends_as_if_nothing_had_been(
    tmp_path: Path, accumulation: int, cut_after: int
) -> None:
    record(tmp_path / "recordings", "a", frames=16)
    settings = toy_settings(
        tmp_path, "training.max_epochs=3", f"training.accumulation_steps={accumulation}"
    )
    run = Run(tmp_path, settings)
    whole = run()
    cut = run(stop_after=cut_after)
    assert run.report.steps == cut_after
    taken_up = run(resume=True)
    assert run.report.steps == 12
    name = "head.last.weight"
    assert not torch.equal(whole[name], cut[name])
    for name, tensor in whole.items():
        torch.testing.assert_close(taken_up[name], tensor, rtol=0, atol=1e-6)


def test_a_run_taken_up_draws_what_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the windows that loss.perceptual looks at, for example."""
    record(tmp_path / "recordings", "a", frames=16)
    drawn: list[float] = []

    class Drawing(Stepper):
        def step(self, *arguments: Any) -> tuple[float, dict[str, float]]:
            drawn.append(float(torch.rand(())))
            return super().step(*arguments)

    monkeypatch.setattr(fit_module, "Stepper", Drawing)
    run = Run(tmp_path, toy_settings(tmp_path, "training.max_epochs=2"))
    run()
    whole = drawn.copy()
    drawn.clear()
    run(stop_after=3)
    run(resume=True)
    assert drawn == whole
    assert len(set(whole)) == 8


def test_a_disk_that_is_full_when_a_run_is_saved_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "recordings", "a", frames=16)
    run = Run(tmp_path, toy_settings(tmp_path, "training.save_every_secs=0.001"))
    run(stop_after=2)
    kept = run.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run(stop_after=4)
    assert run.report.steps == 4
    assert "step 4 is not saved" in caplog.text
    assert run.path.read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [run.path.name]


def test_a_saved_run_that_cannot_be_deleted_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "recordings", "a", frames=2)
    run = Run(tmp_path, toy_settings(tmp_path))
    run.path.mkdir()  # which no one can unlink, root neither
    run.memory(resume=False).forget()
    assert "the saved run stays" in caplog.text


def test_what_does_not_belong_to_a_run_is_not_taken_up(tmp_path: Path) -> None:
    record(tmp_path / "recordings", "a", frames=8)
    run = Run(tmp_path, toy_settings(tmp_path, "training.max_epochs=2"))
    with pytest.raises(CannotResume, match="without --resume"):
        run(resume=True)
    run(stop_after=1)
    for versions, cure in (
        ((), "now: delete .* and start"),
        (("untrained",), "promote KEY untrained"),
    ):
        with pytest.raises(CannotResume, match=cure):
            run.memory(resume=True, champion="v0001-00000000", versions=versions)
    run.path.write_bytes(run.path.read_bytes()[:100])
    with pytest.raises(CannotResume, match=r"cannot be read .*: delete .*unfinished"):
        run(resume=True)


@pytest.mark.parametrize(
    "changed",
    [
        "training.max_epochs=3",
        "training.curriculum=[{samples: [60], epochs: 1}]",
        "augmentation.flip_share=0.5",
        "loss.structural=1",
        "model.ffn_dim=32",
        "sampling.default_sample_count=50",
        "sentinel_value=-1",
    ],
)
def test_a_run_goes_on_only_as_it_began(tmp_path: Path, changed: str) -> None:
    record(tmp_path / "recordings", "a", frames=8)
    run = Run(tmp_path, toy_settings(tmp_path))
    run(stop_after=1)
    run.settings = toy_settings(tmp_path, changed)
    name = changed.partition("=")[0]
    with pytest.raises(CannotResume, match=rf"other settings \({name}\): give the same, or delete"):
        run(resume=True)


def test_a_run_may_go_on_for_another_time_and_elsewhere(tmp_path: Path) -> None:
    record(tmp_path / "recordings", "a", frames=8)
    run = Run(tmp_path, toy_settings(tmp_path))
    run(stop_after=1)
    elsewhere = ("max_secs=7", "workers=2", "device=cpu", "cpu_threads=2", "save_every_secs=9")
    run.settings = toy_settings(tmp_path, *(f"training.{setting}" for setting in elsewhere))
    run.memory(resume=True)


def test_a_run_that_was_saved_before_its_settings_were_is_taken_up(tmp_path: Path) -> None:
    record(tmp_path / "recordings", "a", frames=8)
    run = Run(tmp_path, toy_settings(tmp_path))
    run(stop_after=1)
    old = {"champion_version": "untrained", "val_sessions": ["b"], "step": 1, "elapsed_secs": 0.5}
    old["model"] = run.settings.model.model_dump(mode="json")
    tensors = safetensors.torch.load_file(run.path)
    safetensors.torch.save_file(tensors, run.path, metadata={"run": json.dumps(old)})
    run.settings = toy_settings(tmp_path, "training.max_epochs=3")
    run(resume=True)
    assert run.report.steps == 6


@pytest.mark.parametrize("stop_after", [0, 1])
def test_a_run_that_learned_nothing_yet_saves_nothing(tmp_path: Path, stop_after: int) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=16)
    settings = toy_settings(tmp_path, "training.accumulation_steps=2")
    report = cut_off(settings, stop_after=stop_after)
    assert (report.fit.steps, report.finished, report.resumable) == (stop_after, False, False)
    assert not (settings.data.checkpoints_dir / KEY / UNFINISHED_NAME).exists()


def cut_off(
    settings: Settings,
    *,
    stop_after: int = 10**9,
    options: RunOptions = BY_HAND,
) -> RunReport:
    """A run by hand that is told to stop after so many steps."""
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.step == stop_after:
            stop.set()

    if not stop_after:
        stop.set()
    return train_key(
        KEY,
        find_segments(settings.data.recordings_dir, KEY),
        settings,
        stop=stop,
        report=watch,
        options=options,
    )


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_that_learns_too_fast_is_not_saved(tmp_path: Path, epochs: int) -> None:
    """Told to learn slower it could not be taken up, nor could another one begin."""
    settings = toy_settings(
        tmp_path,
        "training.learning_rate=1e30",
        "training.warmup_epochs=0",
        "training.save_every_secs=1e-9",
        f"training.max_epochs={epochs}",
    )
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    with pytest.raises(TrainingFailed, match=r"lower training\.learning_rate"):
        cut_off(settings)
    assert not (settings.data.checkpoints_dir / KEY / UNFINISHED_NAME).exists()
    assert cut_off(toy_settings(tmp_path, "training.max_epochs=1")).finished


def test_a_run_whose_loader_was_killed_can_be_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(tmp_path, "training.save_every_secs=1e-9", "training.max_epochs=2")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=24)

    def killed(*arguments: Any, **options: Any) -> Iterator[list[Example]]:
        yield from itertools.islice(load(*arguments, **options), 2)
        raise LoaderKilled("")

    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "load", killed)
        with pytest.raises(LoaderKilled):
            cut_off(settings)
    seen: list[int] = []
    train_key(
        KEY,
        find_segments(settings.data.recordings_dir, KEY),
        settings,
        stop=threading.Event(),
        report=lambda progress: seen.append(progress.step),
        options=RunOptions(resumable=True, resume=True),
    )
    assert seen == list(range(3, 13))


@pytest.mark.usefixtures("ever_better")
def test_a_run_that_was_cut_off_is_lost_to_no_other_one(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=2")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=24)
    saved_at = settings.data.checkpoints_dir / KEY / UNFINISHED_NAME
    assert cut_off(settings, stop_after=2).resumable
    kept = saved_at.read_bytes()
    for cut_after in (0, 10**9):
        with pytest.raises(
            WouldBeLost, match=rf"after 2 steps .* by --resume, or delete {saved_at}"
        ):
            cut_off(settings, stop_after=cut_after)
    # One that the trainer starts by itself comes to its end beside it.
    assert cut_off(settings, options=RunOptions()).published is not None
    assert saved_at.read_bytes() == kept
    saved_at.write_bytes(kept[:100])
    with pytest.raises(CannotResume, match=f"cannot be read .* delete {saved_at}"):
        cut_off(settings)
    saved_at.unlink()
    assert cut_off(settings).finished


def test_what_a_run_was_trained_on_is_not_held_out_when_it_is_taken_up(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=16)
    segments = find_segments(settings.data.recordings_dir, KEY)

    def run_on(train: str, val: str, *, resume: bool) -> None:
        stop = threading.Event()
        train_key(
            KEY,
            [segment for segment in segments if segment.session_id in train],
            settings,
            stop=stop,
            report=lambda _: stop.set(),
            options=RunOptions(
                resumable=True,
                resume=resume,
                val=tuple(segment for segment in segments if segment.session_id in val),
            ),
        )

    run_on("ab", "c", resume=False)
    with pytest.raises(SgapsError, match=r"goes on from was trained on 1 of .* b among them"):
        run_on("a", "b", resume=True)


def test_a_run_that_cannot_be_published_can_be_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then tells how good it is, though there is nothing left to learn."""
    runs = f"data.runs_dir={tmp_path / 'runs'}"
    settings = toy_settings(tmp_path, runs, "logging.wandb=disabled")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=24)

    def full(folder: Path) -> None:
        if folder.name.startswith(".v"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "fsync_folder", full)
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left.*--resume"):
            cut_off(settings)
    key_dir = settings.data.checkpoints_dir / KEY
    assert not list(key_dir.glob(".v*"))
    assert (key_dir / UNFINISHED_NAME).exists()
    log = RunLog(KEY, settings)
    report = cut_off(settings, options=RunOptions(resumable=True, resume=True, log=log))
    log.close()
    assert report.published is not None
    *_, last = (log.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(last)["step"] == report.fit.steps > 0
    assert "psnr_db_at_500" in last
    assert not (key_dir / UNFINISHED_NAME).exists()


@pytest.mark.usefixtures("ever_better")
def test_a_run_taken_up_holds_out_what_it_held_out(tmp_path: Path) -> None:
    """However many come meanwhile; and it tells all that it was trained on, also what is gone."""
    settings = toy_settings(tmp_path, "training.max_epochs=2")
    root = settings.data.recordings_dir
    for name in ("e", "g"):
        record(root, name, frames=24)

    def run(*, resume: bool, stop_after: int) -> RunReport:
        stop = threading.Event()

        def watch(progress: Progress) -> None:
            if progress.step == stop_after:
                stop.set()

        return train_key(
            KEY,
            find_segments(root, KEY),
            settings,
            stop=stop,
            report=watch,
            options=RunOptions(resumable=True, resume=resume),
        )

    run(resume=False, stop_after=3)
    for name in ("d", "f"):  # which would be held out
        record(root, name, frames=24)
    assert split_by_session(find_segments(root), val_share=0.25).val_sessions == ("d",)
    shutil.rmtree(root / KEY / "g")
    run(resume=True, stop_after=6)
    published = run(resume=True, stop_after=10**9).published
    assert published is not None
    assert published.data.val_sessions == ("e",)
    assert published.data.train_sessions == ("d", "f", "g")


@pytest.mark.parametrize("gone", ["e", "g"])
def test_a_run_whose_held_out_or_other_sessions_are_gone_cannot_be_taken_up(
    tmp_path: Path, gone: str
) -> None:
    settings = toy_settings(tmp_path)
    for name in ("e", "g"):
        record(settings.data.recordings_dir, name, frames=24)
    header = RunHeader(champion_version="untrained", model=settings.model, val_sessions=("e",))
    saved_at = settings.data.checkpoints_dir / KEY / UNFINISHED_NAME
    save_run(saved_at, SavedRun(header=header, tensors={}))
    shutil.rmtree(settings.data.recordings_dir / KEY / gone)
    cure = rf"name them with data\.val=\[…\] as before, or delete {saved_at} and start without"
    with pytest.raises(CannotResume, match=cure):
        train_key(
            KEY,
            find_segments(settings.data.recordings_dir, KEY),
            settings,
            stop=threading.Event(),
            report=lambda _: None,
            options=RunOptions(resumable=True, resume=True),
        )
