"""Which examples make up the batches of a run, and the processes that prepare them."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import BaseContext

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from sgaps.errors import SgapsError
from sgaps.model import pick_device
from sgaps.settings import Settings, TrainingSettings
from trainer.augment import AugmentationPipeline
from trainer.dataset import Example, RecordingDataset, Request
from trainer.ranks import Ranks

AHEAD_PER_WORKER = 2
MOST_PIXELS_ON_CPU = 2**22
"""Of a batch, one picture as large as `server.max_pixels`: a step takes 600 to 900 bytes for each
of them, and a trainer in a container has 4 GB."""
MOST_PIXELS_ON_GPU = 2**26
"""A GPU of 80 GB takes them."""
BYTES_PER_PIXEL = 900
SHARE_OF_FREE_MEMORY = 0.8
"""A reconstructor may share the GPU, and wants more now and then."""


class BatchPlan(Sampler[list[Request]]):
    """The batches of a run, as requests to a dataset.

    Depends on the seed, the number of a step and the pixels of a batch alone: so a run can be taken
    up at any step, and every rank knows its own share.
    """

    def __init__(
        self,
        dataset: RecordingDataset,
        settings: Settings,
        *,
        ranks: Ranks,
        most_pixels: int,
        first_step: int,
        counts: Callable[[int], tuple[int, ...]],
    ) -> None:
        """`counts` gives the sample counts to choose from at a step; no batch has more pixels."""
        self._dataset = dataset
        self._training = settings.training
        self._augmentation = AugmentationPipeline(
            settings.augmentation, sentinel=settings.sentinel_value
        )
        self._ranks = ranks
        self._most_pixels = most_pixels
        self._first_step = first_step
        self._counts = counts

    def __iter__(self) -> Iterator[list[Request]]:
        training, most = self._training, self._most_pixels
        per_epoch = steps_per_epoch(self._dataset, training, self._ranks, most_pixels=most)
        for epoch in range(self._first_step // per_epoch, training.max_epochs):
            rng = np.random.default_rng((training.seed, epoch))
            batches = self._dataset.batches(training.batch_size, rng, most_pixels=most)
            for k in range(per_epoch):
                step = epoch * per_epoch + k
                if step >= self._first_step:
                    mine = batches[k * self._ranks.count + self._ranks.rank]
                    yield self._requests(step, epoch, mine)

    def _requests(self, step: int, epoch: int, indices: NDArray[np.intp]) -> list[Request]:
        rng = np.random.default_rng((self._training.seed, step, self._ranks.rank))
        shape = self._augmentation.shape(int(rng.choice(self._counts(step))), rng)
        return [Request(index=index, shape=shape, epoch=epoch) for index in indices.tolist()]


def most_pixels_of_a_batch(training: TrainingSettings, ranks: Ranks) -> int:
    """That the device has memory for now: the same for all ranks, which plan the same batches."""
    most = MOST_PIXELS_ON_CPU
    if pick_device(training.device).type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info()
        most = min(MOST_PIXELS_ON_GPU, int(SHARE_OF_FREE_MEMORY * free_bytes / BYTES_PER_PIXEL))
    return ranks.least_of(most)


def steps_per_epoch(
    dataset: RecordingDataset, training: TrainingSettings, ranks: Ranks, *, most_pixels: int
) -> int:
    """Every frame once, but for what does not fill a step of all ranks. At least 1."""
    rng = np.random.default_rng(0)
    batches = dataset.batches(training.batch_size, rng, most_pixels=most_pixels)
    if len(batches) < ranks.count:
        raise SgapsError(
            f"{len(dataset)} frames are {len(batches)} batches: too few for {ranks.count} ranks"
        )
    return len(batches) // ranks.count


def load(dataset: RecordingDataset, plan: BatchPlan, *, workers: int) -> Iterable[list[Example]]:
    """The examples of every batch of the plan, in its order.

    Not as tensors: a process that has shared some may abort when it ends (torch 2.13), and then
    the end of a run waits for it.
    """
    return DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_begin_worker,
        prefetch_factor=AHEAD_PER_WORKER if workers else None,
        multiprocessing_context=_clean_copies() if workers else None,
    )


def _clean_copies() -> BaseContext:
    """Processes that are copies of one with the imports done and nothing open.

    A copy of this one would share its open HDF5 files, and the locks of every other thread; one
    that starts from nothing imports for seconds, and the next waits for it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin_worker(_: int) -> None:
    """Ctrl-C reaches the whole group of processes; the training one decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_training, daemon=True).start()


def _end_with_the_training() -> None:
    """Also when it was killed: torch looks at the parent, which is the server of copies here."""
    training = multiprocessing.parent_process()
    if training is not None:
        multiprocessing.connection.wait([training.sentinel])
        os._exit(1)
