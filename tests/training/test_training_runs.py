"""A run as a whole: its plan of batches, cut off and taken up, on several ranks."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from sgaps import durable
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import CheckpointError, SgapsError
from sgaps.model import CheckpointStore, build_model, prepare_cpu
from sgaps.recording import find_segments
from sgaps.settings import Settings
from tools import require
from trainer import fit as fit_module
from trainer import loader, run_memory, train
from trainer.augment import AugmentationPipeline
from trainer.batch import make_batch
from trainer.contest import Contest
from trainer.dataset import ExampleOptions, RecordingDataset, Request
from trainer.fit import fit
from trainer.loader import BatchPlan, load, most_pixels_of_a_batch, steps_per_epoch
from trainer.losses import ReconstructionLoss, TemporalLoss
from trainer.ranks import ALONE, Ranks
from trainer.reporter import Reporter
from trainer.run import UNFINISHED_NAME, RunOptions, RunReport, train_key
from trainer.run_lock import alone_with
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
from training.toy_recordings import KEY, dataset_of, record, toy_settings
from waiting import wait_until

MOST_PIXELS = 2**20
BY_HAND = RunOptions(resumable=True)


def plan(
    dataset: RecordingDataset, settings: Settings, *, ranks: Ranks = ALONE, first_step: int = 0
) -> list[list[Request]]:
    counts = (40, 60)
    return list(
        BatchPlan(
            dataset,
            settings,
            ranks=ranks,
            most_pixels=MOST_PIXELS,
            first_step=first_step,
            counts=lambda _: counts,
        )
    )


def test_the_ranks_share_the_frames_of_an_epoch(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=24)
    dataset = dataset_of(find_segments(tmp_path))
    settings = toy_settings(tmp_path, "training.max_epochs=1", "training.batch_size=4")
    shares = [plan(dataset, settings, ranks=Ranks(rank, 3)) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    indices = [request.index for share in shares for batch in share for request in batch]
    assert sorted(indices) == list(range(24))


def test_a_plan_taken_up_goes_on_as_it_would_have(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=10)
    dataset = dataset_of(find_segments(tmp_path))
    settings = toy_settings(tmp_path, "training.max_epochs=3")
    assert plan(dataset, settings, first_step=4) == plan(dataset, settings)[4:]


def test_too_few_frames_for_the_ranks_are_refused(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=3)
    dataset = dataset_of(find_segments(tmp_path))
    with pytest.raises(SgapsError, match="3 frames are 1 batches"):
        steps_per_epoch(
            dataset, toy_settings(tmp_path).training, Ranks(0, 2), most_pixels=MOST_PIXELS
        )


@pytest.mark.parametrize(
    ("free_bytes", "most_pixels"), [(2**40, loader.MOST_PIXELS_ON_GPU), (9 * 10**9, 8_000_000)]
)
def test_a_batch_has_no_more_pixels_than_the_gpu_has_memory_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, most_pixels: int
) -> None:
    monkeypatch.setattr(loader, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_bytes, 2**41))
    assert most_pixels_of_a_batch(toy_settings(tmp_path).training, ALONE) == most_pixels


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


def test_workers_prepare_the_same_batches(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=9)
    dataset = dataset_of(find_segments(tmp_path), resample=True)
    settings = toy_settings(tmp_path, "training.max_epochs=2")
    batches = BatchPlan(
        dataset,
        settings,
        ranks=ALONE,
        most_pixels=MOST_PIXELS,
        first_step=0,
        counts=lambda _: (60,),
    )
    alone, helped = (list(load(dataset, batches, workers=workers)) for workers in (0, 2))
    assert sorted(map(len, alone)) == [1, 1, 4, 4, 4, 4]
    for expected, got in zip(alone, helped, strict=True):
        for one, other in zip(expected, got, strict=True):
            np.testing.assert_array_equal(one.samples, other.samples)
            np.testing.assert_array_equal(one.target, other.target)


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


def paired(root: Path, *, resample: bool) -> RecordingDataset:
    plain = toy_settings(root)
    augmentation = AugmentationPipeline(plain.augmentation, sentinel=-999.0)
    options = ExampleOptions(
        history_frames=2,
        sampling=plain.sampling,
        seed=1,
        sentinel=-999.0,
        augmentation=augmentation if resample else None,
        pairs=True,
    )
    return RecordingDataset(find_segments(root), options)


@pytest.mark.parametrize("resample", [True, False])
def test_pairs_are_a_frame_and_the_one_before(tmp_path: Path, resample: bool) -> None:
    record(tmp_path, "a", frames=6)
    dataset = paired(tmp_path, resample=resample)
    examples = [dataset[i] for i in range(6)]
    assert examples[0].before is None
    found = [(example, example.before) for example in examples if example.before]
    assert len(found) == 5 if not resample else found
    for example, before in found:
        assert (before.state[0], before.width) == (example.state[0] - 1, example.width)
        (age, samples), *_ = example.history
        assert age == 1
        np.testing.assert_array_equal(samples, before.samples)


def test_a_batch_knows_its_pairs(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=3)
    dataset = paired(tmp_path, resample=False)
    settings = toy_settings(tmp_path)
    batch = make_batch([dataset[i] for i in range(3)], settings, torch.device("cpu"))
    assert batch.pairs.tolist() == [[1, 3], [2, 4]]
    assert batch.target is not None
    assert batch.target.shape[0] == 5
    torch.testing.assert_close(batch.target[3], batch.target[0])


def test_the_temporal_loss_is_blind_to_what_stays_and_sees_flicker() -> None:
    target, pairs = torch.rand(2, 1, 4, 4), torch.tensor([[0, 1]])
    loss = TemporalLoss()
    assert float(loss(target + 0.1, target, pairs)) == pytest.approx(0, abs=1e-9)
    flicker = torch.tensor([0.1, -0.1]).view(2, 1, 1, 1)
    assert float(loss(target + flicker, target, pairs)) == pytest.approx(0.04)


def test_pairs_weigh_in_the_loss(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=3)
    dataset = paired(tmp_path, resample=False)
    settings = toy_settings(tmp_path)
    batch = make_batch([dataset[i] for i in range(3)], settings, torch.device("cpu"))
    output = build_model(settings.model)(batch.inputs)
    losses, terms = {}, {}
    for weight in (0.0, 2.0):
        weights = settings.loss.model_copy(update={"temporal": weight})
        losses[weight], terms = ReconstructionLoss(weights)(output, batch)
    assert float(terms["temporal"].detach()) > 0
    added = float((losses[2.0] - losses[0.0]).detach())
    assert added == pytest.approx(2 * float(terms["temporal"].detach()))


def logged_run(tmp_path: Path, *overrides: str) -> tuple[RunLog, RunReport]:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=16)
    settings = toy_settings(
        tmp_path,
        "training.max_epochs=3",
        "logging.look_every_secs=0.01",
        f"data.runs_dir={tmp_path / 'runs'}",
        *overrides,
    )
    log = RunLog(KEY, settings)
    report = train_key(
        KEY,
        find_segments(settings.data.recordings_dir, KEY),
        settings,
        stop=threading.Event(),
        report=lambda _: None,
        options=RunOptions(log=log),
    )
    log.close()
    return log, report


def test_a_run_leaves_numbers_curves_and_pictures(tmp_path: Path) -> None:
    log, report = logged_run(tmp_path, "logging.wandb=disabled")
    lines = [json.loads(line) for line in (log.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    looks = [line for line in lines if "val_psnr_db" in line]
    assert [line["step"] for line in steps] == list(range(1, report.fit.steps + 1))
    assert set(steps[0]["terms"]) == {"full", "log_error"}
    assert (looks[0]["step"], looks[-1]["step"]) == (0, report.fit.steps)
    assert looks[-1]["val_psnr_db"] > looks[0]["val_psnr_db"]
    assert looks[-1]["val_ssim"] > looks[0]["val_ssim"]
    assert lines[-1]["psnr_db_at_500"] > lines[-1]["psnr_db_at_125"]
    for name in ("curves.png", "step-000000.png", f"step-{report.fit.steps:06d}.png"):
        picture = cv2.imread(str(log.folder / name))
        assert picture is not None
        assert picture.std() > 0
    assert not (log.folder / "wandb").exists()
    assert not any(look.strips for _, look in log._looks)  # which would fill memory


def test_a_log_that_fails_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("step", "look", "efficiency"):
        monkeypatch.setattr(RunLog, name, full)
    _, report = logged_run(tmp_path, "logging.wandb=disabled")
    assert report.published is not None
    assert caplog.text.count("the log of this run has gaps") == 1


def test_a_key_has_one_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=8)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = command(tmp_path, "training.max_epochs=1")[2:]
    with alone_with(KEY, tmp_path / "checkpoints"):
        assert train.main(arguments) == 1
        assert "another run trains 'toy'" in capsys.readouterr().err
        with alone_with("other", tmp_path / "checkpoints"):
            pass
    assert train.main(arguments) == 0


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


def test_a_run_is_logged_to_wandb_offline(tmp_path: Path) -> None:
    require(find_spec("wandb"), "wandb")
    log, _ = logged_run(tmp_path, "logging.wandb=offline")
    (run,) = (log.folder / "wandb").glob("offline-run-*")
    assert next(run.glob("run-*.wandb")).stat().st_size > 1000
    assert list(run.glob("files/media/images/held_out_*.png"))


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, f"data.runs_dir={tmp_path}", "logging.wandb=disabled")
    logs = [RunLog(KEY, settings) for _ in range(3)]
    for log in logs:
        log.close()
    assert len({log.folder for log in logs}) == 3
    assert not any(log.folder.exists() for log in logs)  # of runs that never began


def test_a_folder_of_runs_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = toy_settings(tmp_path, f"data.runs_dir={tmp_path / 'file' / 'runs'}")
    with pytest.raises(SgapsError, match=r"no log can be written to .*data\.runs_dir="):
        RunLog(KEY, settings)


def command(tmp_path: Path, *overrides: str) -> list[str]:
    """`-m trainer.train` on the toy recordings."""
    return [
        *("-m", "trainer.train", "--key", KEY),
        *("training=live", "training.min_sessions=2", "training.learning_rate=3e-3"),
        *("sampling.default_sample_count=60", "training.cpu_threads=1"),
        *("model.embed_dim=32", "model.num_heads=2", "model.ffn_dim=48"),
        *("model.refine_channels=16", "model.coarse_channels=[16]"),
        f"data.recordings_dir={tmp_path / 'recordings'}",
        f"data.checkpoints_dir={tmp_path / 'checkpoints'}",
        f"data.shipped_dir={tmp_path / 'shipped'}",
        f"data.runs_dir={tmp_path / 'runs'}",
        "logging.wandb=disabled",
        *overrides,
    ]


@pytest.mark.parametrize("setting", ["data.train", "data.val"])
@pytest.mark.parametrize("folder", ["recordings/toy", "recordings/toy/a", "nothing"])
def test_a_named_folder_without_recordings_is_refused(
    tmp_path: Path, setting: str, folder: str
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2)
    (tmp_path / "nothing").mkdir()
    settings = toy_settings(tmp_path, f"{setting}=[{tmp_path / folder}]")
    with pytest.raises(SgapsError, match=rf"{setting}: no sealed .*<key>/<session>/\*\.h5"):
        train._run(KEY, settings, threading.Event(), ranks=ALONE, resume=False)


@pytest.mark.parametrize("setting", ["data.train", "data.val"])
def test_what_is_named_twice_counts_once(tmp_path: Path, setting: str) -> None:
    folder = tmp_path / "recordings"
    record(folder, "a", frames=2)
    (tmp_path / "link").symlink_to(folder)
    named = [folder, folder / ".." / "recordings", tmp_path / "link"]
    assert len(train._segments(setting, named)) == 1
    assert train._segments(setting, [folder, folder / KEY / "a" / "000000.h5"]) == find_segments(
        folder
    )
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SgapsError, match=rf"session a is in .*: name one of them in {setting}"):
        train._segments(setting, [folder, tmp_path / "copy"])


TRAIN_BY_TWO_CLOCKS = """
import os, pathlib, sys, time, types, zlib
from trainer import fit, train

rank = int(os.environ["RANK"])
fit.time = types.SimpleNamespace(monotonic=lambda: time.monotonic() * (1 + 29 * rank))

class Stepper(fit.Stepper):
    def finish(self):
        weights = b"".join(t.numpy().tobytes() for t in self.tensors().values())
        pathlib.Path(sys.argv[1], f"weights-{rank}").write_text(str(zlib.crc32(weights)))
        super().finish()

fit.Stepper = Stepper
sys.exit(train.main(sys.argv[2:]))
"""


def test_two_ranks_train_one_checkpoint(tmp_path: Path) -> None:
    """And have the same weights, though the clock of one is thirty times as fast."""
    script = tmp_path / "train_by_two_clocks.py"
    script.write_text(TRAIN_BY_TWO_CLOCKS)
    for name in ("a", "b", "c"):
        record(tmp_path / "recordings", name, frames=24)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    options = command(tmp_path, "training.max_epochs=12", "training.max_secs=100")[2:]
    done = subprocess.run(
        [*launcher, str(script), str(tmp_path), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    _, manifest, _ = CheckpointStore(tmp_path / "checkpoints").load_current(KEY)
    assert manifest.metrics.val_psnr_db > manifest.metrics.champion_psnr_db + 0.3
    assert done.stdout.count("published") == 1
    first, second = ((tmp_path / f"weights-{rank}").read_text() for rank in range(2))
    assert first == second


def test_loader_processes_end_with_a_run_that_was_killed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=24)
    mark = {"SGAPS_TEST_RUN": str(tmp_path)}
    begun = subprocess.Popen(
        [sys.executable, *command(tmp_path, "training.max_epochs=2000", "training.workers=2")],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SGAPS__TRAINING__SAVE_EVERY_SECS": "0.2"} | mark,
    )
    saved = tmp_path / "checkpoints" / KEY / UNFINISHED_NAME
    wait_until(saved.exists)
    assert len(processes_with(mark)) > 3  # the run, the server of copies and two of them
    begun.kill()
    begun.wait()
    wait_until(lambda: not processes_with(mark))


def processes_with(mark: dict[str, str]) -> list[str]:
    """Ids of the processes that have inherited a variable."""
    ((name, value),) = mark.items()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{name}={value}".encode() in environment.read_bytes().split(b"\0"):
                found.append(environment.parent.name)
    return found


def run_here(tmp_path: Path, *more: str) -> int:
    """Exit status of the command in this process, whose handlers of signals it would replace."""
    return train.main(command(tmp_path, *more)[2:])


@pytest.mark.usefixtures("ever_better")
def test_without_a_key_the_general_checkpoint_learns_from_all_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = [part for part in command(tmp_path)[2:] if part not in {"--key", KEY}]
    assert train.main(arguments) == 1
    assert "make some: play, or sgaps capture GAME\n" in capsys.readouterr().err
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=4)
    assert train.main([*arguments, "training.max_epochs=1"]) == 0
    (manifest,) = (tmp_path / "checkpoints" / DEFAULT_KEY).glob("v*/manifest.json")
    assert json.loads(manifest.read_text())["checkpoint_key"] == DEFAULT_KEY


def test_an_interrupted_command_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=24)
    begun = subprocess.Popen(
        [sys.executable, *command(tmp_path, "training.max_epochs=2000", "training.workers=1")],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SGAPS__TRAINING__SAVE_EVERY_SECS": "0.2"},
    )
    saved = tmp_path / "checkpoints" / KEY / UNFINISHED_NAME
    try:
        wait_until(saved.exists)
        begun.send_signal(signal.SIGINT)
        _, told = begun.communicate(timeout=60)
    finally:
        begun.kill()
    assert begun.returncode == 130
    assert "once more ends it at once" in told
    assert "--resume" in told
    assert "Traceback" not in told
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    kept = saved.read_bytes()
    for other, told in (
        (["training.max_epochs=2000"], "--resume, or delete"),
        (["training.max_epochs=3", "--resume"], "other settings (training.max_epochs)"),
    ):
        assert run_here(tmp_path, *other) == 1
        assert told in capsys.readouterr().err
        assert saved.read_bytes() == kept
    assert run_here(tmp_path, "training.max_epochs=2000", "training.max_secs=2", "--resume") == 0
    assert not saved.exists()
    manifest = json.loads(
        next((tmp_path / "checkpoints" / KEY).glob("v*/manifest.json")).read_text()
    )
    assert manifest["parent"] is None


@pytest.mark.usefixtures("ever_better")
def test_a_run_whose_terminal_cannot_be_written_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=4)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stderr", Full())
    assert run_here(tmp_path, "training.max_epochs=1") == 0
    assert "published v0001" in capsys.readouterr().out


def test_a_run_that_is_interrupted_together_with_who_reads_it_is_saved(tmp_path: Path) -> None:
    """`sgaps train 2>&1 | tee log` and Ctrl-C."""
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=24)
    looking = ("training.max_epochs=2000", "logging.look_every_secs=0.1")

    def has_learned() -> bool:
        return any('"loss"' in log.read_text() for log in tmp_path.glob("runs/*/*/metrics.jsonl"))

    begun = subprocess.Popen(
        [sys.executable, *command(tmp_path, *looking)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert begun.stdout is not None
    try:
        wait_until(has_learned)
        begun.stdout.close()
        begun.send_signal(signal.SIGINT)
        assert begun.wait(timeout=60) == 130
    finally:
        begun.kill()
    assert (tmp_path / "checkpoints" / KEY / UNFINISHED_NAME).exists()


@pytest.mark.parametrize("when", ["judged", "published"])
@pytest.mark.parametrize("disk", ["well", "full"])
@pytest.mark.usefixtures("ever_better")
def test_what_an_interrupted_command_says_is_true(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: str,
    disk: str,
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=4)
    handlers: list[Callable[[], None]] = []
    monkeypatch.setattr(signal, "signal", lambda _, handler: handlers.append(handler))

    def interrupting(what: Callable[..., Any]) -> Callable[..., Any]:
        def interrupted(*arguments: Any, **options: Any) -> Any:
            handlers[0]()
            return what(*arguments, **options)

        return interrupted

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if when == "judged":
            patched.setattr(Contest, "judged", interrupting(Contest.judged))
        else:
            patched.setattr(Reporter, "end", interrupting(Reporter.end))
        if disk == "full":
            patched.setattr(run_memory, "save_run", full)
        status = run_here(tmp_path, "training.max_epochs=2")
    told = capsys.readouterr()
    if when == "published":
        assert (status, "published v0001" in told.out) == (0, True)
        return
    assert status == 130
    assert ("--resume" in told.err) == (disk == "well")
    assert ("nothing is saved" in told.err) == (disk == "full")
    again = run_here(tmp_path, "training.max_epochs=2", "--resume")
    assert again == (0 if disk == "well" else 1)
    if disk == "well":  # and nothing is trained twice
        assert "published v0001" in capsys.readouterr().out


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
    with pytest.raises(CannotResume, match="not there any more"):
        train_key(
            KEY,
            find_segments(settings.data.recordings_dir, KEY),
            settings,
            stop=threading.Event(),
            report=lambda _: None,
            options=RunOptions(resumable=True, resume=True),
        )
