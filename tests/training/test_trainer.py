"""Training on small recordings: what it learns from, what it holds out, what it publishes."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lockless import refuse_locks
from sgaps.bus.memory_bus import MemoryBus
from sgaps.errors import SettingsError, SgapsError
from sgaps.model import CheckpointStore, build_model, pick_device, prepare_cpu
from sgaps.model.inpaint import on_black
from sgaps.recording import find_segments, note_trained, trained_segments, untrained
from sgaps.sampling.footprints import sample_image
from sgaps.service import Service
from sgaps.settings import Settings, load_settings
from toy_models import publish
from trainer import cards, contest, draw, run, validation
from trainer.augment import BatchShape
from trainer.batch import make_batch
from trainer.dataset import Request
from trainer.fit import FitReport, fit
from trainer.stepper import TrainingFailed, moving_average
from trainer.validation import HeldOut
from trainer.worker import Worker, enough_to_train
from training.toy_recordings import (
    HEIGHT,
    KEY,
    WIDTH,
    dataset_of,
    record,
    scene,
    toy_settings,
    train,
)


@pytest.mark.parametrize("keyframes", [True, False])
def test_a_run_learns_and_publishes_what_is_better(tmp_path: Path, keyframes: bool) -> None:
    settings = toy_settings(tmp_path)
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=24, keyframes=keyframes)
    report = train(settings)
    assert report.champion_version == "untrained"
    assert report.challenger.psnr_db > report.champion.psnr_db + 0.3
    _, manifest, _ = CheckpointStore(settings.data.checkpoints_dir).load_current(KEY)
    assert manifest == report.published
    assert manifest.metrics.val_psnr_db == report.challenger.psnr_db
    assert set(manifest.data.train_sessions).isdisjoint(manifest.data.val_sessions)
    again = train(toy_settings(tmp_path, "training.max_epochs=1"))
    assert again.champion_version == manifest.model_version
    assert again.champion.psnr_db == pytest.approx(report.challenger.psnr_db, abs=1e-3)


def test_a_run_that_leaves_states_out_is_judged_without_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a measure that is 30 dB with states and 20 without."""
    settings = toy_settings(
        tmp_path, "training.max_epochs=1", "augmentation.state_absent_share=0.2"
    )
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)
    monkeypatch.setattr(
        validation,
        "frame_psnr_db",
        lambda _, batch: 30.0 if batch.inputs.state_valid.any() else 20.0,
    )
    assert train(settings).champion.psnr_db == pytest.approx(0.8 * 30 + 0.2 * 20)


def test_what_is_not_better_is_not_published(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=1", "training.min_gain_db=50")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)
    report = train(settings)
    assert report.published is None
    assert CheckpointStore(settings.data.checkpoints_dir).current(KEY) is None


def test_a_key_is_trained_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=1")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)
    refuse_locks(monkeypatch)
    assert train(settings).finished


def test_a_model_for_color_is_not_trained_on_gray_recordings(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "model.color_channels=3")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)
    with pytest.raises(SgapsError, match="recordings are gray"):
        train(settings)


def test_samples_can_be_had_as_a_sparse_picture_and_a_mask(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=1)
    example = dataset_of(find_segments(tmp_path))[0]
    picture, known = on_black(example.samples, example.width, example.height)
    assert picture.shape == known.shape == (HEIGHT, WIDTH)
    assert 0 < known.sum() <= 60
    assert example.target is not None
    np.testing.assert_array_equal(picture[known], example.target[known])
    assert not picture[~known].any()


def test_a_stopped_run_publishes_nothing(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)
    stop = threading.Event()
    stop.set()
    report = train(settings, stop)
    assert (report.published, report.fit.steps) == (None, 0)


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.learning_rate=1e30", "training.warmup_epochs=0")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=12)
    with pytest.raises(TrainingFailed, match=r"the gradient became .*learning_rate"):
        train(settings)


def test_one_gradient_that_is_not_finite_costs_its_update_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that overflows in bfloat16."""
    settings = toy_settings(tmp_path, "training.max_epochs=3")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=12)
    norms = itertools.chain([1.0, math.inf, math.nan], itertools.repeat(1.0))
    clip = nn.utils.clip_grad_norm_

    def clipped(parameters: Iterable[Tensor], most: float) -> Tensor:
        parameters = list(parameters)
        clip(parameters, most)
        norm = torch.tensor(next(norms))
        for parameter in parameters:
            if parameter.grad is not None and not torch.isfinite(norm):
                parameter.grad.fill_(norm)
        return norm

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clipped)
    assert train(settings).finished
    told = [line for line in caplog.messages if "an update is left out" in line]
    assert told == [f"an update is left out: its gradient is {norm}" for norm in ("inf", "nan")]


def test_what_the_last_update_ruins_is_no_finished_run(tmp_path: Path) -> None:
    settings = toy_settings(
        tmp_path,
        "training.learning_rate=1e30",
        "training.warmup_epochs=0",
        "training.max_epochs=1",
    )
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    with pytest.raises(TrainingFailed, match=r"PSNR became nan dB; .*learning_rate"):
        train(settings)
    assert not trained_segments(KEY, settings.data.checkpoints_dir)


@pytest.mark.parametrize(("known", "enough"), [(0, True), (1, True), (2, False)])
def test_a_run_waits_for_new_frames(tmp_path: Path, known: int, enough: bool) -> None:
    settings = toy_settings(tmp_path, "training.min_new_frames=12")
    for name in ("a", "b", "c"):
        record(tmp_path, name, frames=6)
    segments = find_segments(tmp_path)
    assert enough_to_train(segments, new=segments[known:], settings=settings) is enough
    one_session = [segment for segment in segments if segment.session_id == "a"]
    assert not enough_to_train(one_session * 9, new=one_session * 9, settings=settings)


def test_what_a_run_had_is_noted_however_it_came_out(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=1", "training.min_gain_db=50")
    root, checkpoints = settings.data.recordings_dir, settings.data.checkpoints_dir
    for name in ("a", "b"):
        record(root, name, frames=6)
    had = find_segments(root)
    stop = threading.Event()
    stop.set()
    train(settings, stop)
    assert untrained(had, trained_segments(KEY, checkpoints), root=root) == had
    train(settings)
    assert untrained(had, trained_segments(KEY, checkpoints), root=root) == []
    record(root, "c", frames=1)
    (new,) = untrained(find_segments(root), trained_segments(KEY, checkpoints), root=root)
    assert new.session_id == "c"
    had[0].path.unlink()  # it goes, and is recorded anew under its name
    record(root, had[0].session_id, frames=7)
    later_ns = had[0].modified_at_ns + 2 * 10**9  # what is noted counts whole seconds
    os.utime(had[0].path, ns=(later_ns, later_ns))
    new_names = untrained(find_segments(root), trained_segments(KEY, checkpoints), root=root)
    assert {segment.session_id for segment in new_names} == {"c", had[0].session_id}
    train(settings)
    assert untrained(find_segments(root), trained_segments(KEY, checkpoints), root=root) == []
    assert len(trained_segments(KEY, checkpoints)) == 3


def test_a_trainer_knows_after_a_restart_what_was_trained(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    root, checkpoints = settings.data.recordings_dir, settings.data.checkpoints_dir
    for name in ("a", "b"):
        record(root, name, frames=6)
    had = find_segments(root)
    note_trained(KEY, checkpoints, had, root=root)
    had[0].path.unlink()  # retention makes fewer frames of a key, and that hides no new ones
    record(root, "c", frames=2)
    service = Service(name="trainer", settings=settings, bus=MemoryBus(), stop=asyncio.Event())
    worker = Worker(service)
    assert [new.session_id for new in worker._new(KEY, find_segments(root))] == ["c"]
    (checkpoints / KEY / "trained.json").write_text("torn")
    assert [new.session_id for new in worker._new(KEY, find_segments(root))] == ["b", "c"]


def test_without_whole_frames_part_of_the_samples_is_held_out(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=2, keyframes=False)
    example = dataset_of(find_segments(tmp_path))[1]
    assert example.target is None
    assert (len(example.samples), len(example.held_out)) == (48, 12)
    together = np.concatenate([example.samples, example.held_out])
    assert len(np.unique(together, axis=0)) == 60


@pytest.mark.parametrize("samples", [2, 4])
def test_of_few_samples_one_is_held_out(tmp_path: Path, samples: int) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2, keyframes=False, samples=samples)
    example = dataset_of(find_segments(tmp_path / "recordings"))[1]
    assert (len(example.samples), len(example.held_out)) == (samples - 1, 1)
    report = train(toy_settings(tmp_path, "training.max_epochs=1"))
    assert math.isfinite(report.champion.psnr_db)
    assert math.isfinite(report.challenger.psnr_db)


def test_a_frame_of_one_sample_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2, keyframes=False, samples=1)
    assert len(dataset_of(find_segments(tmp_path / "recordings"))) == 0
    with pytest.raises(
        SgapsError, match="two sessions with frames that are whole or have two samples"
    ):
        train(toy_settings(tmp_path))


def test_history_is_the_frames_before_with_their_age(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=3)
    dataset = dataset_of(find_segments(tmp_path))
    assert dataset[0].history == ()
    ((age, samples),) = dataset[2].history
    assert age == 1
    np.testing.assert_array_equal(samples, dataset[1].samples)


def test_a_capture_without_samples_is_sampled_from_its_frames(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=1, samples=0)
    example = dataset_of(find_segments(tmp_path))[0]
    assert example.target is not None
    assert len(example.samples) == 60
    again = sample_image(example.target, example.samples[:, [0, 1, 3]])
    np.testing.assert_array_equal(again, example.samples)
    assert example.samples[:, 3].max() > 1


def test_every_frame_is_in_one_batch_of_an_epoch(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=10)
    dataset = dataset_of(find_segments(tmp_path))
    batches = list(dataset.batches(4, np.random.default_rng(0), most_pixels=2**20))
    assert sorted(index for batch in batches for index in batch) == list(range(10))
    assert max(map(len, batches)) == 4


def test_nobody_is_told_of_noise_below_a_grey_level(tmp_path: Path) -> None:
    """Or one black frame would outweigh all others."""
    record(tmp_path, "a", frames=1)
    example = dataset_of(find_segments(tmp_path))[0]
    batch = make_batch([example], toy_settings(tmp_path), torch.device("cpu"))
    assert batch.target is not None
    told = [validation.frame_psnr_db(batch.target + noise, batch) for noise in (0, 1e-5, 1e-4)]
    assert told == pytest.approx([58.9] * 3, abs=0.1)
    off = validation.frame_psnr_db(batch.target + 0.1, batch)
    assert off == pytest.approx(20, abs=0.01)


def test_a_batch_has_the_true_frames_beside_its_input(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=2)
    dataset = dataset_of(find_segments(tmp_path))
    settings = toy_settings(tmp_path)
    batch = make_batch([dataset[0], dataset[1]], settings, torch.device("cpu"))
    assert batch.target is not None
    assert batch.target.shape == (2, 1, HEIGHT, WIDTH)
    assert batch.inputs.uv.shape == (2, 120, 2)
    assert batch.inputs.valid.sum(1).tolist() == [60, 120]


def test_training_draws_every_kind_of_samples(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=40, samples=0)
    segments = find_segments(tmp_path, KEY)

    def largest_px(resample: bool) -> list[float]:
        """The largest footprint of each frame."""
        dataset = dataset_of(segments, resample=resample)
        examples = [
            dataset[Request(index=i, shape=BatchShape(samples=30), epoch=0)]
            for i in range(len(dataset))
        ]
        assert {len(example.samples) for example in examples} == {30}
        return [float(example.samples[:, 3].max()) for example in examples]

    assert min(largest_px(resample=False)) > 1
    varied = largest_px(resample=True)
    assert min(varied) == 1
    assert max(varied) > 1


SEVENTY = load_settings(["sampling.default_sample_count=70"], environment={}).sampling


@given(st.integers(0, 2**32 - 1))
@hypothesis_settings(max_examples=40)
def test_drawn_samples_are_what_the_picture_shows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = draw.any_kind(rng)
    drawn = draw.samples(scene(1), scene(0), kind, SEVENTY, rng)
    assert drawn.shape == (70, 4)
    assert (drawn[:, 3] == 1).all() or kind.footprints
    np.testing.assert_array_equal(sample_image(scene(1), drawn[:, [0, 1, 3]]), drawn)


def test_arithmetic_on_tiny_floats_is_off_while_training() -> None:
    prepare_cpu(1)
    assert (torch.tensor([1e-38]) * 0.1).item() == 0.0


def test_what_is_kept_is_the_average_of_the_weights(tmp_path: Path) -> None:
    record(tmp_path / "recordings", "a", frames=24)
    dataset = dataset_of(find_segments(tmp_path / "recordings", KEY))

    def moved(ema_decay: float) -> float:
        settings = toy_settings(
            tmp_path, f"training.ema_decay={ema_decay}", "training.max_epochs=4"
        )
        torch.manual_seed(0)
        model = build_model(settings.model)
        before = model.head.last.weight.detach().clone()
        fit(model, dataset, settings, stop=threading.Event(), report=lambda _: None)
        return float((model.head.last.weight - before).norm().detach())

    assert 0 < moved(0.99) < moved(0.0)


def test_of_what_a_short_run_began_with_nothing_is_kept() -> None:
    average, kept = moving_average(0.999), [torch.zeros(1)]
    for update in range(1, 41):
        average(kept, [torch.ones(1)], update)
    assert float(kept[0]) > 0.99
    average(kept, [torch.zeros(1)], 100_000)
    assert float(kept[0]) == pytest.approx(0.999, abs=1e-3)


def test_a_run_that_goes_on_from_another_draws_other_samples(
    soon_better: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = soon_better
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    seeds: list[int] = []

    def watched(*arguments: Any, **options: Any) -> FitReport:
        seeds.append(arguments[2].training.seed)
        assert arguments[1]._options.seed == seeds[-1]
        return fit(*arguments, **options)

    monkeypatch.setattr(run, "fit", watched)
    assert train(settings).published is not None
    again = train(settings)
    assert seeds == [0, 1]
    assert again.published is not None
    assert again.published.training["seed"] == 0


@pytest.mark.parametrize("gain_db", [0.0, 1e-3])
def test_what_is_only_as_good_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain_db: float
) -> None:
    told = itertools.count()

    def judged(*_: object, **__: object) -> HeldOut:
        psnr_db = 20 + gain_db * next(told)
        return HeldOut(psnr_db=psnr_db, score_db=psnr_db)

    monkeypatch.setattr(contest, "validate", judged)
    settings = toy_settings(
        tmp_path,
        "training.max_epochs=1",
        "training.min_gain_db=0",
        "augmentation.state_absent_share=0",
    )
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    assert (train(settings).published is not None) == (gain_db > 0)


def test_a_manifest_has_room_however_long_a_key_is_played(
    soon_better: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that are gone from the disk are named last: they cannot be held out."""
    settings = soon_better
    monkeypatch.setattr(cards, "MOST_SESSIONS_NAMED", 3)
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    assert train(settings).published is not None
    for name in "abc":
        shutil.rmtree(settings.data.recordings_dir / KEY / name)
    for name in ("d", "e", "f"):
        record(settings.data.recordings_dir, name, frames=4)
    published = train(settings).published
    assert published is not None
    assert {*published.data.train_sessions, *published.data.val_sessions} == {"d", "e", "f"}


def test_a_checkpoint_names_the_sessions_of_those_it_comes_from(soon_better: Settings) -> None:
    settings = soon_better
    known: set[str] = set()
    for names in (("a", "b", "c"), ("d", "e"), ("f", "g")):
        for name in names:
            record(settings.data.recordings_dir, name, frames=4)
        published = train(settings).published
        assert published is not None
        now = set(published.data.train_sessions)
        assert known < now
        assert now.isdisjoint(published.data.val_sessions)
        known = now
        if published.parent:
            shutil.rmtree(settings.data.checkpoints_dir / KEY / published.parent)
    assert len(known) > 3


def test_a_run_that_learns_nothing_fails(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=1", "training.accumulation_steps=100")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    with pytest.raises(TrainingFailed, match="accumulation_steps"):
        train(settings)


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="auto takes one"):
        pick_device("cuda")


def test_a_run_makes_room_first(soon_better: Settings) -> None:
    training = soon_better.training.model_copy(update={"keep_versions": 1})
    settings = soon_better.model_copy(update={"training": training})
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    root = settings.data.checkpoints_dir
    *_, last = (publish(root, KEY, seed=seed).model_version for seed in range(3))  # all but one go
    report = train(settings)
    assert report.champion_version == last
    assert report.published is not None
    assert CheckpointStore(root).versions(KEY) == [last, report.published.model_version]


def test_one_session_alone_is_not_trained_on(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=6)
    with pytest.raises(SgapsError, match="two sessions with frames"):
        train(settings)
