"""Batches: which frames are in one, on which rank, and what it has of them."""

from __future__ import annotations

import errno
import multiprocessing.context
import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sgaps.ending import end_signals
from sgaps.errors import ErrorCode, ProtocolError, RecordingCorrupt, SgapsError
from sgaps.recording import find_segments
from sgaps.settings import Settings
from trainer import loader
from trainer.augment import BatchShape
from trainer.batch import make_batch
from trainer.dataset import Example, RecordingDataset, Request
from trainer.loader import BatchPlan, LoaderKilled, load, most_pixels_of_a_batch, steps_per_epoch
from trainer.ranks import ALONE, Ranks
from training.toy_recordings import dataset_of, paired, record, toy_settings
from waiting import PATIENCE_SECS, wait_until

MOST_PIXELS = 2**20


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


class Large(RecordingDataset):
    """Its pictures are larger than what a connection holds, and none comes after `good` ones."""

    good = 2**30

    def __getitem__(self, wanted: int | Request) -> Example:
        index = wanted if isinstance(wanted, int) else wanted.index
        if index >= self.good:
            raise RecordingCorrupt(f"picture {index} is torn")
        example = super().__getitem__(0)
        return replace(example, width=index, target=np.zeros((2048, 2048), np.uint8))


@pytest.fixture
def large(tmp_path: Path) -> Large:
    record(tmp_path, "a", frames=1)
    return Large(find_segments(tmp_path), dataset_of([])._options)


def requests(count: int) -> list[list[Request]]:
    """Batches of one example each."""
    shape = BatchShape(samples=60)
    return [[Request(index=index, shape=shape, epoch=0)] for index in range(count)]


@pytest.fixture
def impatient() -> Iterator[None]:
    """What waits for ever fails."""

    def end(*_: object) -> None:
        pytest.fail("nothing has come of it")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(int(PATIENCE_SECS))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def is_writing(pid: int) -> bool:
    """Whether a thread of a process waits for room in a pipe or a socket."""
    places = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/wchan")]
    return any("write" in place or "send" in place for place in places)


@pytest.mark.usefixtures("impatient")
def test_a_loader_process_that_is_killed_in_the_middle_of_a_batch_ends_the_run(
    large: Large,
) -> None:
    with closing(load(large, requests(40), workers=2)) as batches:
        next(batches)
        first, second = loaders()
        wait_until(lambda: is_writing(second))
        os.kill(second, signal.SIGKILL)
        with pytest.raises(LoaderKilled, match=r"lower training\.workers"):
            list(batches)
    wait_until(lambda: not loaders())
    assert not Path(f"/proc/{first}").exists()


def loaders() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid]


@pytest.mark.usefixtures("impatient")
def test_loader_processes_outlive_what_asks_the_whole_group_to_end(large: Large) -> None:
    """`systemctl stop`, `scancel`, Ctrl-C, a closed terminal: the run decides when to end."""
    with closing(load(large, requests(20), workers=2)) as batches:
        came = [next(batches), next(batches)]  # one of each, so both have begun
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for pid in loaders():
                os.kill(pid, number)
        came += batches
    assert [example.width for (example,) in came] == list(range(20))


def blocked(pid: int) -> int:
    """Signals that wait for a process, a bit each."""
    (line,) = re.findall(
        r"^SigBlk:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return int(line, 16)


def test_what_the_group_is_told_while_a_loader_process_starts_does_not_end_it(large: Large) -> None:
    """Its fork server imports for seconds, and it is there before it can say what it ignores."""
    before = blocked(os.getpid())
    with closing(load(large, requests(2), workers=1)) as batches:
        next(batches)
        assert blocked(os.getpid()) == before
        for pid in loaders():
            for number in end_signals():
                assert blocked(pid) & 1 << (number - 1)


def test_a_loader_process_that_cannot_start_was_not_killed(
    large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(multiprocessing.context.ForkServerProcess, "start", start)
    with pytest.raises(OSError, match="Too many open files"):
        next(load(large, requests(1), workers=1))


class Refusing(Large):
    def __getitem__(self, wanted: int | Request) -> Example:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "no frame")


def test_an_error_that_cannot_travel_is_told_by_its_words(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=1)
    refusing = Refusing(find_segments(tmp_path), dataset_of([])._options)
    batches = load(refusing, requests(1), workers=1)
    with closing(batches), pytest.raises(SgapsError, match=r"^ProtocolError: .*no frame"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_with_a_frame_is_raised_by_the_run(large: Large, workers: int) -> None:
    large.good = 3
    batches = load(large, requests(9), workers=workers)
    came: list[int] = []
    with closing(batches), pytest.raises(RecordingCorrupt, match="picture 3 is torn"):
        came.extend(example.width for (example,) in batches)
    assert came == [0, 1, 2]


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
