"""Training on small recordings: what it learns from, what it holds out, what it publishes."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lockless import refuse_locks
from sgaps.bus.memory_bus import MemoryBus
from sgaps.checkpoints import DEFAULT_KEY, DataCard, Metrics
from sgaps.errors import CheckpointUnreadable, SettingsError, SgapsError
from sgaps.model import (
    CheckpointStore,
    ModelOutput,
    SparsePixelTransformer,
    build_model,
    pick_device,
    prepare_cpu,
)
from sgaps.recording import find_segments, note_trained, trained_segments, untrained
from sgaps.sampling.footprints import as_points, sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.sampling.quadtree import split_tiling
from sgaps.service import Service
from sgaps.settings import Settings, load_settings
from toy_models import publish
from trainer import cards, contest, draw, run, validation
from trainer.augment import AugmentationPipeline, BatchShape
from trainer.batch import make_batch
from trainer.champion import champion_of
from trainer.dataset import ExampleOptions, RecordingDataset, Request
from trainer.fit import FitReport, fit
from trainer.losses import SampledPixelL2Loss, log_error_loss, log_mse_loss, means_at
from trainer.pictures import on_black
from trainer.run import RunOptions, RunReport, train_key
from trainer.schedule import Schedule, sample_counts
from trainer.split import split_by_session
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


def test_where_a_keys_own_checkpoint_is_for_color_the_general_one_is_the_champion(
    tmp_path: Path,
) -> None:
    """As it is what serves the key."""
    data = (settings := toy_settings(tmp_path)).data
    general = publish(data.shipped_dir, DEFAULT_KEY)
    publish(data.checkpoints_dir, KEY, color_channels=3)
    assert champion_of(KEY, settings).version == general.model_version


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


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.learning_rate=1e30", "training.warmup_epochs=0")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=12)
    with pytest.raises(TrainingFailed, match="learning_rate"):
        train(settings)


def test_whole_sessions_are_held_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        record(tmp_path, name, frames=2)
    split = split_by_session(find_segments(tmp_path), val_share=0.25)
    train_sessions = {segment.session_id for segment in split.train}
    val_sessions = {segment.session_id for segment in split.val}
    assert (len(train_sessions), len(val_sessions)) == (3, 1)
    assert train_sessions.isdisjoint(val_sessions)


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
    assert untrained(had, trained_segments(checkpoints, KEY), root=root) == had
    train(settings)
    assert untrained(had, trained_segments(checkpoints, KEY), root=root) == []
    record(root, "c", frames=1)
    (new,) = untrained(find_segments(root), trained_segments(checkpoints, KEY), root=root)
    assert new.session_id == "c"
    had[0].path.unlink()  # it goes, and is recorded anew under its name
    record(root, had[0].session_id, frames=7)
    later_ns = had[0].modified_at_ns + 2 * 10**9  # what is noted counts whole seconds
    os.utime(had[0].path, ns=(later_ns, later_ns))
    new_names = untrained(find_segments(root), trained_segments(checkpoints, KEY), root=root)
    assert {segment.session_id for segment in new_names} == {"c", had[0].session_id}
    train(settings)
    assert untrained(find_segments(root), trained_segments(checkpoints, KEY), root=root) == []
    assert len(trained_segments(checkpoints, KEY)) == 3


def test_a_trainer_knows_after_a_restart_what_was_trained(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    root, checkpoints = settings.data.recordings_dir, settings.data.checkpoints_dir
    for name in ("a", "b"):
        record(root, name, frames=6)
    had = find_segments(root)
    note_trained(checkpoints, KEY, had, root=root)
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


def test_means_are_read_where_samples_were_taken() -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
    rng = np.random.default_rng(1)
    coords = split_tiling(
        NOTHING_KNOWN, guided_share=0, count=60, width=WIDTH, height=HEIGHT, rng=rng
    )
    points = np.concatenate([coords, as_points(rng.random((50, 2), np.float32))])
    samples = torch.from_numpy(sample_image(image, points)[None])
    frame = torch.from_numpy(image).float().div(255)[None, None]
    np.testing.assert_allclose(means_at(frame, samples)[0], samples[0, :, 2], atol=0.5 / 255 + 1e-6)
    loss = SampledPixelL2Loss()
    valid = torch.ones(samples.shape[:2], dtype=torch.bool)
    assert float(loss(frame, samples, valid)) < (0.5 / 255) ** 2
    assert float(loss(frame + 0.5, samples, valid)) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("side", [1, 2, 64])
def test_a_mean_at_an_edge_is_that_of_the_pixel_behind_it(side: int) -> None:
    """As the protocol has it, and 1 is in the last one."""
    columns, rows = -(-WIDTH // side), -(-HEIGHT // side)
    numbers = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    image = numbers.repeat(side, 0).repeat(side, 1)[:HEIGHT, :WIDTH]
    frame = torch.from_numpy(image.copy())[None, None].requires_grad_()
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(WIDTH + 1), np.arange(HEIGHT + 1)))
    rest = np.full((len(x), 2), [0, side])
    points = torch.from_numpy(np.column_stack([x / WIDTH, y / HEIGHT, rest]).astype(np.float32))
    expected = image[np.minimum(y, HEIGHT - 1), np.minimum(x, WIDTH - 1)]
    means = means_at(frame, points[None])[0]
    np.testing.assert_allclose(means.detach().numpy(), expected, rtol=1e-5)
    means.sum().backward()  # type: ignore[no-untyped-call]
    assert frame.grad is not None
    assert float(frame.grad.sum()) == pytest.approx(len(points), rel=1e-5)


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


def test_the_frame_loss_falls_with_psnr() -> None:
    target = torch.zeros(2, 1, 4, 4)
    near, far = log_mse_loss(target + 0.05, target), log_mse_loss(target + 0.5, target)
    assert float(far - near) == pytest.approx(2 * np.log(10), abs=0.01)


def test_the_predicted_error_is_that_of_frames_and_its_cells_differ_as_theirs_do() -> None:
    """Where a cell cannot be foretold, its best logarithm alone would tell too good a frame."""
    rng = torch.Generator().manual_seed(0)
    spread = torch.exp(torch.randn(4000, 1, 6, 8, generator=rng))  # unforeseeable, of one kind
    slope = torch.linspace(-1, 1, 8).expand(6, 8)
    error = 0.05 * F.interpolate(spread * slope.exp(), scale_factor=2.0)
    told = torch.zeros(6, 8, requires_grad=True)
    optimiser = torch.optim.Adam([told], lr=0.1)
    for _ in range(300):
        output = ModelOutput(
            frame=error, log_error=told.expand(4000, -1, -1), entropy=None, attention=None
        )
        optimiser.zero_grad()
        log_error_loss(output, torch.zeros_like(error)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    cells = told.detach()
    torch.testing.assert_close(cells - cells.mean(), slope, atol=0.1, rtol=0)
    torch.testing.assert_close(log_rms(cells.exp()[None, None]), log_rms(error), atol=0.01, rtol=0)
    assert float(cells.mean()) > math.log(0.05) + 0.5  # the best of each cell alone


def log_rms(error: torch.Tensor) -> torch.Tensor:
    """Mean over frames (B, 1, H, W)."""
    return 0.5 * error.square().mean((1, 2, 3)).log().mean()


def test_a_batch_has_the_true_frames_beside_its_input(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=2)
    dataset = dataset_of(find_segments(tmp_path))
    settings = toy_settings(tmp_path)
    batch = make_batch([dataset[0], dataset[1]], settings, torch.device("cpu"))
    assert batch.target is not None
    assert batch.target.shape == (2, 1, HEIGHT, WIDTH)
    assert batch.inputs.uv.shape == (2, 120, 2)
    assert batch.inputs.valid.sum(1).tolist() == [60, 120]


def test_the_schedule_warms_up_falls_and_ends() -> None:
    schedule = Schedule(warmup_part=0.1, total_steps=100, max_secs=50)
    factors = [schedule.factor(step, 0.0) for step in range(100)]
    assert factors[0] < factors[5] < max(factors)
    assert factors[99] < 0.01
    assert schedule.factor(20, 49.0) < 0.01
    assert schedule.done(100, 0.0)
    assert schedule.done(1, 50.0)
    assert not schedule.done(99, 49.0)


def test_a_run_that_ends_by_time_warms_up_in_its_share_of_the_time() -> None:
    schedule = Schedule(warmup_part=0.1, total_steps=10_000, max_secs=600)
    by_time = [schedule.factor(round(secs), secs) for secs in (0, 30, 60, 300, 599)]
    assert by_time == pytest.approx([0.001, 0.5, 0.976, 0.5, 0.0], abs=2e-3)
    assert by_time[0] > 0
    assert Schedule(warmup_part=0, total_steps=100, max_secs=600).factor(0, 0.0) == 1


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


def test_the_curriculum_goes_through_its_phases(tmp_path: Path) -> None:
    settings = load_settings(environment={})
    counts = [sample_counts(settings, part) for part in (0, 0.29, 0.31, 0.69, 0.71, 1)]
    assert counts == [(1000,), (1000,), (500,), (500,), (250,), (250,)]
    assert sample_counts(toy_settings(tmp_path), 0.5) == (60,)
    general = load_settings(["training=general"], environment={})
    assert set(sample_counts(general, 1)) == {250, 500, 1000}


def augmented(**shares: float) -> AugmentationPipeline:
    nothing = load_settings(environment={}).augmentation
    return AugmentationPipeline(nothing.model_copy(update=shares), sentinel=-999.0)


def test_without_shares_nothing_is_augmented() -> None:
    rng, pipeline = np.random.default_rng(0), augmented()
    state = np.array([1, 2], np.float32)
    shape = pipeline.shape(40, rng)
    assert shape == BatchShape(samples=40)
    (truth,) = pipeline.truths([scene(1)], shape, rng, flip=pipeline.flips(rng))
    np.testing.assert_array_equal(pipeline.seen(truth, rng), scene(1))
    np.testing.assert_array_equal(pipeline.state(state, rng), state)


def test_augmented_frames_are_smaller_mirrored_and_noisy_but_judged_by_the_truth() -> None:
    rng = np.random.default_rng(0)
    pipeline = augmented(scale_share=1.0, noise_std=0.1, compression_share=1.0)
    shape = pipeline.shape(40, rng)
    assert 0.5 <= shape.scale < 1
    small, flipped = (pipeline.truths([scene(1)], shape, rng, flip=f)[0] for f in (False, True))
    assert small.shape == (round(HEIGHT * shape.scale), round(WIDTH * shape.scale))
    np.testing.assert_array_equal(flipped, small[:, ::-1])
    seen = pipeline.seen(small, rng)
    assert 1 < np.abs(seen.astype(int) - small).mean() < 60


def test_crops_of_a_session_lie_in_one_place_and_have_as_many_samples_for_their_area() -> None:
    rng = np.random.default_rng(0)
    shape = augmented(crop_share=1.0).shape(1000, rng)
    assert 0.5 <= shape.crop < 1
    assert shape.samples == round(1000 * shape.crop**2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pictures = [x.astype(np.uint8), y.astype(np.uint8)]
    columns, rows = augmented().truths(pictures, shape, rng, flip=False)
    height, width = round(HEIGHT * shape.crop), round(WIDTH * shape.crop)
    assert columns.shape == rows.shape == (height, width)
    np.testing.assert_array_equal(columns, x[:height, :width] + columns[0, 0])
    np.testing.assert_array_equal(rows, y[:height, :width] + rows[0, 0])
    assert columns[0, 0] <= WIDTH - width
    assert rows[0, 0] <= HEIGHT - height


def test_a_pose_that_lies_is_missing() -> None:
    rng = np.random.default_rng(0)
    state = np.ones(1000, np.float32)
    assert (augmented().state(state, rng, lies=True) == -999).all()
    dropped = augmented(state_drop_share=0.2).state(state, rng)
    assert 0.15 < (dropped == -999).mean() < 0.25


def test_some_examples_come_without_any_state() -> None:
    rng = np.random.default_rng(0)
    pipeline = augmented(state_absent_share=0.2)
    states = [pipeline.state(np.ones(9, np.float32), rng) for _ in range(500)]
    shares = np.array([(state == -999).mean() for state in states])
    assert set(shares) == {0.0, 1.0}
    assert 0.15 < shares.mean() < 0.25


def options_of(pipeline: AugmentationPipeline) -> ExampleOptions:
    sampling = load_settings(["sampling.default_sample_count=60"], environment={}).sampling
    return ExampleOptions(
        history_frames=2, sampling=sampling, seed=0, sentinel=-999.0, augmentation=pipeline
    )


@pytest.mark.parametrize(("keyframes", "samples"), [(True, 0), (True, 60), (False, 60)])
def test_recorded_and_drawn_examples_come_without_a_state_alike(
    tmp_path: Path, keyframes: bool, samples: int
) -> None:
    record(tmp_path, "a", frames=9, keyframes=keyframes, samples=samples)
    pipeline = augmented(state_absent_share=0.5)
    options = options_of(pipeline)
    dataset = RecordingDataset(find_segments(tmp_path), options)
    whole = BatchShape(samples=60)
    requests = [Request(index=i, shape=whole, epoch=e) for i in range(9) for e in range(30)]
    absent = [(dataset[request].state == -999).all() for request in requests]
    assert 0.4 < np.mean(absent) < 0.6


@pytest.mark.parametrize(("crop", "flip"), [(0.7, 0.0), (1.0, 1.0)])
def test_in_a_mirror_and_in_a_cut_a_pose_is_missing(
    tmp_path: Path, crop: float, flip: float
) -> None:
    record(tmp_path, "a", frames=3, samples=0)
    pipeline = augmented(flip_share=flip)
    options = options_of(pipeline)
    dataset = RecordingDataset(find_segments(tmp_path), options)
    example = dataset[Request(index=2, shape=BatchShape(samples=60, crop=crop), epoch=0)]
    assert (example.state == -999).all()


def test_a_batch_of_augmented_examples_has_one_shape(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=6)
    pipeline = augmented(flip_share=0.5, noise_std=0.1, compression_share=0.5, state_drop_share=0.5)
    options = options_of(pipeline)
    dataset = RecordingDataset(find_segments(tmp_path), options)
    shape = BatchShape(samples=40, scale=0.6)
    examples = [dataset[Request(index=i, shape=shape, epoch=0)] for i in range(len(dataset))]
    assert {(e.width, e.height, len(e.samples)) for e in examples} == {(29, 19, 40)}
    batch = make_batch(examples, toy_settings(tmp_path), torch.device("cpu"))
    assert batch.target is not None
    assert batch.target.shape == (6, 1, 19, 29)


def test_a_model_of_another_shape_has_to_beat_what_serves(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=24)
    first = train(settings)
    assert first.published is not None
    other = ("model.ffn_dim=40", "model.history_frames=1", "model.attended_frames=1")
    report = train(
        toy_settings(tmp_path, *other, "training.max_epochs=1", "training.min_gain_db=50")
    )
    assert report.champion_version == first.published.model_version
    assert report.champion.psnr_db == pytest.approx(first.challenger.psnr_db, abs=1e-3)
    assert report.published is None
    assert CheckpointStore(settings.data.checkpoints_dir).current(KEY) == first.published


def test_a_model_of_another_shape_starts_from_the_general_one_that_has_it(
    soon_better: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an update that brings a general checkpoint of a new shape."""
    settings = soon_better
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    own = train(settings).published
    assert own is not None
    other = toy_settings(tmp_path, "model.ffn_dim=40", "training.max_epochs=1")
    CheckpointStore(settings.data.shipped_dir).publish(
        DEFAULT_KEY,
        build_model(other.model),
        settings=other.model,
        metrics=own.metrics,
        parent=None,
        data=own.data.model_copy(update={"train_sessions": own.data.val_sessions}),
        training={},
    )
    begun: list[torch.Tensor] = []

    def fit_seen(model: SparsePixelTransformer, *args: Any, **kwargs: Any) -> FitReport:
        begun.append(model.grid.patch.weight.detach().clone())
        return fit(model, *args, **kwargs)

    monkeypatch.setattr("trainer.run.fit", fit_seen)
    assert train(other).champion_version == own.model_version
    shipped, *_ = CheckpointStore(settings.data.shipped_dir).load_current(DEFAULT_KEY)
    torch.testing.assert_close(begun[0], shipped.grid.patch.weight, rtol=0, atol=0)
    assert "was trained on what is held out" in caplog.text  # by the general one
    shutil.rmtree(settings.data.shipped_dir)
    train(other)
    assert not torch.equal(begun[1], begun[0])


def test_a_frame_or_two_are_held_out_last(soon_better: Settings) -> None:
    root = soon_better.data.recordings_dir
    for name in ("d", "e", "f", "g"):
        record(root, name, frames=2 if name == "d" else 10)
    segments = find_segments(root)
    assert split_by_session(segments, val_share=0.25).val_sessions == ("d",)
    known = {"e", "f", "g"}
    last = split_by_session(segments, val_share=0.25, trained_on=known, short={"d"})
    assert not known.isdisjoint(last.val_sessions)
    published = train(soon_better).published
    assert published is not None
    assert "d" in published.data.train_sessions


def test_what_has_no_whole_frames_is_not_held_out_where_others_have_some(
    soon_better: Settings,
) -> None:
    root = soon_better.data.recordings_dir
    for name in ("d", "e", "f", "g"):
        record(root, name, frames=12, keyframes=name != "d")
    segments = find_segments(root)
    assert split_by_session(segments, val_share=0.25).val_sessions == ("d",)
    assert split_by_session(segments, val_share=0.75, whole={"e", "f"}).val_sessions in {
        ("e",),
        ("f",),
    }
    assert split_by_session(segments, val_share=0.75, whole={"g"}).val_sessions == ("g",)
    alone = [segment for segment in segments if segment.session_id == "g"]
    assert split_by_session(alone, val_share=0.75, whole={"g"}).val_sessions == ()
    published = train(soon_better).published
    assert published is not None
    assert "d" in published.data.train_sessions


def test_what_the_champion_was_trained_on_is_held_out_last(tmp_path: Path) -> None:
    """However sessions come, none goes from training to the measure."""
    trained_on: set[str] = set()
    for count in range(2, 13):
        record(tmp_path, f"session-{count}", frames=1)
        record(tmp_path, f"another-{count}", frames=1)
        split = split_by_session(find_segments(tmp_path), val_share=0.25, trained_on=trained_on)
        assert len(split.val_sessions) == math.ceil((2 * count - 2) / 4)
        assert trained_on.isdisjoint(split.val_sessions)
        trained_on = set(split.train_sessions)
    everything = set(split.train_sessions) | set(split.val_sessions)
    again = split_by_session(find_segments(tmp_path), val_share=0.25, trained_on=everything)
    assert len(again.val_sessions) == len(split.val_sessions)


def test_a_run_holds_out_what_its_champion_has_not_seen(soon_better: Settings) -> None:
    settings = soon_better
    for name in ("d", "e", "f"):
        record(settings.data.recordings_dir, name, frames=4)
    first = train(settings).published
    assert first is not None
    assert first.data.train_sessions == ("e", "f")
    for name in ("a", "b", "c", "g"):
        record(settings.data.recordings_dir, name, frames=4)
    unaware = split_by_session(find_segments(settings.data.recordings_dir), val_share=0.25)
    assert "f" in unaware.val_sessions
    again = train(settings).published
    assert again is not None
    assert len(again.data.val_sessions) == 2
    assert {"e", "f"}.isdisjoint(again.data.val_sessions)


def test_a_run_ends_where_its_champion_cannot_be_read(
    soon_better: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A challenger that had only to beat the prior would take its place."""
    settings = soon_better
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    assert train(settings).published is not None

    def no_descriptor(*_: object) -> bytes:
        raise CheckpointUnreadable("no descriptor left")

    monkeypatch.setattr(CheckpointStore, "read_file", no_descriptor)
    with pytest.raises(CheckpointUnreadable):
        train(settings)


def test_a_champion_that_knows_all_is_said_to(
    soon_better: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = soon_better
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    first = train(settings).published
    assert first is not None
    shutil.rmtree(settings.data.recordings_dir / KEY / first.data.val_sessions[0])
    train(settings)
    assert "was trained on what is held out" in caplog.text


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


def test_held_out_sessions_that_are_known_are_refused(soon_better: Settings) -> None:
    settings = soon_better
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    segments = find_segments(settings.data.recordings_dir)

    def run_on(train: set[str], val: set[str]) -> RunReport:
        return train_key(
            KEY,
            [s for s in segments if s.session_id in train],
            settings,
            stop=threading.Event(),
            report=lambda _: None,
            options=RunOptions(val=tuple(s for s in segments if s.session_id in val)),
        )

    with pytest.raises(SgapsError, match=r"b is in data\.train too"):
        run_on({"a", "b"}, {"b", "c"})
    first = run_on({"a", "b"}, {"c"})
    assert first.published is not None
    with pytest.raises(SgapsError, match=r"was trained on 1 of .* a among them.*another --seed"):
        run_on({"c"}, {"a"})
    run_on({"a"}, {"c"})


def test_a_champion_was_trained_on_what_its_parents_were(tmp_path: Path) -> None:
    """But for those of another shape, whose weights it has not."""
    settings = toy_settings(tmp_path)
    other = toy_settings(tmp_path, "model.embed_dim=16")
    parent = None
    runs = [
        ("other", other, tmp_path / "shipped", DEFAULT_KEY),
        ("general", settings, tmp_path / "shipped", DEFAULT_KEY),
        ("first", settings, settings.data.checkpoints_dir, KEY),
        ("second", settings, settings.data.checkpoints_dir, KEY),
    ]
    for session, shape, root, key in runs:
        manifest = CheckpointStore(root).publish(
            key,
            build_model(shape.model),
            settings=shape.model,
            metrics=Metrics(val_psnr_db=21, champion_psnr_db=20),
            parent=parent,
            data=DataCard(frames=1, train_sessions=(session,), val_sessions=("held_out",)),
            training={},
        )
        parent = manifest.model_version
    assert champion_of(KEY, settings).trained_on == {"general", "first", "second"}
    shutil.rmtree(settings.data.checkpoints_dir / KEY / str(manifest.parent))
    assert champion_of(KEY, settings).trained_on == {"second"}


def test_what_was_rolled_back_during_a_run_does_not_come_back_unmeasured(
    soon_better: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = soon_better
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    root = settings.data.checkpoints_dir
    first, second = (publish(root, KEY, seed=seed).model_version for seed in range(2))

    def rolled_back(*arguments: Any, **options: Any) -> FitReport:
        CheckpointStore(root).promote(KEY, first)
        return fit(*arguments, **options)

    monkeypatch.setattr(run, "fit", rolled_back)
    report = train(settings)
    assert report.champion_version == first
    assert (report.champion.psnr_db, report.challenger.psnr_db) == (2, 1)  # measured last: best
    assert report.published is None
    assert CheckpointStore(root).current_version(KEY) == first
    assert second in CheckpointStore(root).versions(KEY)


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
