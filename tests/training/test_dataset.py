"""What a run gets of recordings that are not as they should be, and what it leaves open."""

from __future__ import annotations

import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgaps.checkpoints import DEFAULT_KEY
from sgaps.locks import try_lock
from sgaps.model import build_model
from sgaps.recording import (
    SegmentInfo,
    SegmentReader,
    find,
    find_segments,
    trained_segments,
    untrained,
)
from sgaps.settings import PoseLayout
from trainer import snapshot, validation
from trainer.atlas import views_of
from trainer.augment import BatchShape
from trainer.batch import make_batch
from trainer.dataset import Example, ExampleOptions, RecordingDataset, Request
from trainer.measured_frames import frames_to_measure
from trainer.rebuild import rebuilt
from trainer.run import train_key
from trainer.schedule import Progress
from trainer.split import split_by_session
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


def test_a_keyframe_that_cannot_be_decoded_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, "a", frames=4, broken=(2,))
    dataset = dataset_of(find_segments(tmp_path), resample=True)
    whole = BatchShape(samples=60)
    for epoch in range(4):
        drawn = [dataset[Request(index=index, shape=whole, epoch=epoch)] for index in range(4)]
        first, second, in_place, fourth = (shift_of(example) for example in drawn)
        assert (first, second, fourth) == (0, 1, 3)
        assert in_place in {0, 1, 3}
    assert len([line for line in caplog.messages if "left out" in line]) == 1


@pytest.mark.parametrize("half_from", [None, 0])
def test_one_client_that_sends_nothing_but_broken_pictures_ends_nobodys_learning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, half_from: int | None
) -> None:
    """Neither of the size of others nor of a size of its own."""
    record(tmp_path, "a", frames=4)
    record(tmp_path, "b", frames=40, broken=range(40), half_from=half_from)
    dataset = dataset_of(find_segments(tmp_path))
    assert {shift_of(dataset[index]) for index in range(len(dataset))} == {0, 1, 2, 3}
    assert len([line for line in caplog.messages if "left out" in line]) == 1


@pytest.mark.parametrize("samples", [0, 60])
@pytest.mark.parametrize("half_from", [None, 0])
def test_a_session_of_nothing_but_broken_pictures_ends_no_run(
    tmp_path: Path, samples: int, half_from: int | None
) -> None:
    """Also the one that is held out: it is judged by its samples, or does not count."""
    settings = toy_settings(tmp_path, "training.max_epochs=1")
    root = settings.data.recordings_dir
    for name in ("e", "g", "d"):
        broken = range(4 if name == "d" else 0)
        record(root, name, frames=4, samples=samples, broken=broken, half_from=half_from)
    segments = find_segments(root, KEY)
    assert split_by_session(segments, val_share=0.25).val_sessions == ("d",)
    assert train(settings).finished
    trained = trained_segments(KEY, settings.data.checkpoints_dir)
    assert untrained(segments, trained, root=root) == []


def test_a_broken_picture_before_a_frame_is_no_part_of_a_pair(tmp_path: Path) -> None:
    """Or the only good frame of a size could not be had."""
    record(tmp_path, "a", frames=2, broken=(0,))
    plain = dataset_of(find_segments(tmp_path))
    dataset = RecordingDataset(plain.segments, replace(plain._options, pairs=True))
    assert (shift_of(dataset[1]), dataset[1].before) == (1, None)


def test_a_batch_of_large_pictures_is_small(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=9)
    dataset, rng = dataset_of(find_segments(tmp_path)), np.random.default_rng(0)
    for most_pixels, largest in ((2 * WIDTH * HEIGHT, 2), (1, 1)):
        batches = dataset.batches(4, rng, most_pixels=most_pixels)
        assert max(map(len, batches)) == largest
        assert sorted(index for batch in batches for index in batch) == list(range(9))


def test_a_batch_of_pairs_has_no_more_pixels_than_one_of_frames(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=9)
    plain, rng = dataset_of(find_segments(tmp_path)), np.random.default_rng(0)
    dataset = RecordingDataset(plain.segments, replace(plain._options, pairs=True))
    batches = dataset.batches(4, rng, most_pixels=4 * WIDTH * HEIGHT)
    assert max(map(len, batches)) == 2


def test_many_frames_take_little_memory(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=2)
    dataset, frames = dataset_of(find_segments(tmp_path)), 100_000
    assert dataset._places.nbytes == 16 * len(dataset)
    dataset._places = np.tile(dataset._places, (frames // 2, 1))
    tracemalloc.start()
    try:
        batches = dataset.batches(8, np.random.default_rng(0), most_pixels=2**20)
        kept_bytes, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(map(len, batches)) == frames
    assert kept_bytes < 24 * frames
    assert most_bytes < 50 * frames


def test_an_efficiency_curve_is_of_fresh_samples_whatever_count_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, "a", frames=3)
    held_out = dataset_of(find_segments(tmp_path))
    seen: list[Example] = []

    def seeing(_: object, example: Example, __: object) -> float:
        seen.append(example)
        return 0.0

    monkeypatch.setattr(snapshot, "_psnr_db", seeing)
    settings = toy_settings(tmp_path)
    snapshot.efficiency(build_model(settings.model), held_out, settings, (40, 60))
    assert [len(example.samples) for example in seen] == [40] * 3 + [60] * 3
    for example in seen:  # while clients sent points
        assert example.samples[:, 3].max() > 1


def test_what_retention_deleted_before_a_run_began_is_left_out(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=1")
    for name in "abc":
        record(settings.data.recordings_dir, name, frames=2)
    segments = find_segments(settings.data.recordings_dir, KEY)
    segments[0].path.unlink()
    report = train_key(KEY, segments, settings, stop=threading.Event(), report=lambda _: None)
    assert report.finished


def test_what_is_known_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        record(tmp_path, name, frames=2)
    known, opened = find_segments(tmp_path), []
    record(tmp_path, "c", frames=2)
    os.utime(known[0].path, (1, 1))  # another file by now
    look = find.segment_info

    def counted(path: Path) -> SegmentInfo:
        opened.append(path)
        return look(path)

    monkeypatch.setattr(find, "segment_info", counted)
    found = find_segments(tmp_path, known=known)
    assert [segment.session_id for segment in found] == ["a", "b", "c"]
    assert opened == [found[0].path, found[2].path]


@pytest.mark.parametrize("resample", [False, True])
def test_where_no_keyframe_can_be_decoded_the_samples_are_learned_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, resample: bool
) -> None:
    record(tmp_path, "a", frames=2, broken=range(2))
    dataset = dataset_of(find_segments(tmp_path), resample=resample)
    assert not dataset.has_keyframes
    assert (dataset[1].target, len(dataset[1].held_out)) == (None, 12)
    (told,) = [line for line in caplog.messages if "left out" in line]
    assert "000000.h5" in told
    assert "recordings repair" in told


def shift_of(example: Example) -> int:
    """Which frame of the toy scene it is."""
    assert example.target is not None
    return next(i for i in range(4) if (example.target == scene(i)).all())


def test_a_past_of_another_size_is_none(tmp_path: Path) -> None:
    """A session may come back with another resolution."""
    record(tmp_path, "a", frames=4, half_from=2)
    dataset = dataset_of(find_segments(tmp_path), resample=True)
    dataset = RecordingDataset(dataset.segments, replace(dataset._options, pairs=True))
    for epoch in range(8):
        for index in range(4):
            shape = BatchShape(samples=60, crop=0.6)
            example = dataset[Request(index=index, shape=shape, epoch=epoch)]
            if index in {0, 2}:
                assert example.history == ()
            if example.before:
                assert (example.before.width, example.before.height) == (
                    example.width,
                    example.height,
                )


def test_no_segment_is_held_open_after_a_run(tmp_path: Path) -> None:
    """What the recorder deletes would go on to fill the disk."""
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2)
    train(toy_settings(tmp_path, "training.max_epochs=1"))
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [link for link in links if os.path.realpath(link).endswith(".h5")]


def test_nothing_is_deleted_of_any_key_that_a_run_learns_from(tmp_path: Path) -> None:
    """The general checkpoint's segments are of others."""
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2)
    stop, was_free = threading.Event(), []

    def look(_: Progress) -> None:
        folder = os.open(tmp_path / "recordings" / KEY, os.O_RDONLY)
        was_free.append(try_lock(folder))
        os.close(folder)
        stop.set()

    segments = find_segments(tmp_path / "recordings")
    train_key(DEFAULT_KEY, segments, toy_settings(tmp_path), stop=stop, report=look)
    assert was_free == [False]


def test_a_run_that_is_told_to_stop_validates_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=20)
    stop, stopped = threading.Event(), []

    def counted(*args: Any, **options: Any) -> Any:
        stopped.append(stop.is_set())
        return rebuilt(*args, **options)

    monkeypatch.setattr(validation, "rebuilt", counted)
    segments = find_segments(tmp_path / "recordings")
    report = train_key(
        KEY, segments, toy_settings(tmp_path), stop=stop, report=lambda _: stop.set()
    )
    assert not report.finished
    assert stopped.count(False) == 20
    assert stopped.count(True) == 1


def test_what_a_state_lacked_is_missing_whatever_the_sentinel_was(tmp_path: Path) -> None:
    """By which the first frame, whose only value is 0, told nothing."""
    record(tmp_path, "a", frames=3, sentinel=0)
    segments, settings = find_segments(tmp_path), toy_settings(tmp_path)
    examples = [dataset_of(segments, resample=resample)[0] for resample in (False, True)]
    batch = make_batch(examples, settings, torch.device("cpu"))
    assert not batch.inputs.state_valid.any()
    assert dataset_of(segments)[1].state.tolist() == [1]
    data = settings.data.model_copy(update={"recordings_dir": tmp_path})
    found = frames_to_measure(KEY, settings.model_copy(update={"data": data}), frozenset(), count=3)
    assert [state.tolist() for _, state in found["a"]] == [[-999], [1], [2]]
    layout = PoseLayout(values=(0, 0, 0, 0), nearest=1)
    assert {view.position for view in views_of(segments, layout, -999)} == {1, 2}


def test_a_session_is_judged_by_what_it_sent(tmp_path: Path) -> None:
    """However many samples, of whatever kind: as the champion sees it, so does a challenger."""
    record(tmp_path, "a", frames=4, samples=37)
    segments = find_segments(tmp_path)
    with SegmentReader(segments[0].path) as reader:
        sent = [reader.read(position).samples for position in range(4)]
    dataset = dataset_of(segments)
    settings = toy_settings(tmp_path, "training.curriculum=[{epochs: 1, samples: [60]}]")
    own = RecordingDataset(segments, ExampleOptions.of(settings))
    for position in range(4):
        for example in (dataset[position], own[position]):
            np.testing.assert_array_equal(example.samples, sent[position])
        for age, past in own[position].history:
            np.testing.assert_array_equal(past, sent[position - age])


@pytest.mark.parametrize("squares", [True, False])
def test_a_session_is_learned_in_its_own_way(tmp_path: Path, squares: bool) -> None:
    """As many samples of the kind that it sent, also where they are drawn anew."""
    record(tmp_path, "a", frames=8, samples=37, squares=squares)
    dataset = dataset_of(find_segments(tmp_path), resample=True)

    def counts_of(shape: BatchShape, dataset: RecordingDataset) -> set[int]:
        wanted = [Request(index=i, shape=shape, epoch=e) for i in range(8) for e in range(8)]
        examples = [dataset[request] for request in wanted]
        assert {bool((e.samples[:, 3] > 1).any()) for e in examples} == {squares}
        assert len({example.samples.tobytes() for example in examples}) > 8  # drawn ones, too
        return {len(example.samples) for example in examples}

    assert counts_of(BatchShape(samples=60), dataset) == {37}
    assert counts_of(BatchShape(samples=15, crop=0.5), dataset) == {9}
    by_curriculum = replace(dataset._options, curriculum=True)
    taught = RecordingDataset(dataset.segments, by_curriculum)
    assert counts_of(BatchShape(samples=60), taught) == {60}
