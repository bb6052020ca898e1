"""Examples that are cut, mirrored, noisy or without a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sgaps.recording import find_segments
from sgaps.settings import load_settings
from trainer.augment import AugmentationPipeline, BatchShape
from trainer.batch import make_batch
from trainer.dataset import ExampleOptions, RecordingDataset, Request
from training.toy_recordings import HEIGHT, WIDTH, record, scene, toy_settings


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
    record(tmp_path, "a", frames=6, samples=0)
    pipeline = augmented(flip_share=0.5, noise_std=0.1, compression_share=0.5, state_drop_share=0.5)
    options = options_of(pipeline)
    dataset = RecordingDataset(find_segments(tmp_path), options)
    shape = BatchShape(samples=40, scale=0.6)
    examples = [dataset[Request(index=i, shape=shape, epoch=0)] for i in range(len(dataset))]
    assert {(e.width, e.height, len(e.samples)) for e in examples} == {(29, 19, 40)}
    batch = make_batch(examples, toy_settings(tmp_path), torch.device("cpu"))
    assert batch.target is not None
    assert batch.target.shape == (6, 1, 19, 29)
