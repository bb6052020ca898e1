"""Which examples make up the batches of a run, and the processes that prepare them."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.ending import end_signals
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


class LoaderKilled(SgapsError):
    """A process that prepares batches is gone: what was saved of the run can be taken up."""


class BatchPlan:
    """The batches of a run, as requests to a dataset.

    Which frames are in one depends on the seed, the number of its step and the pixels of a batch
    alone: so a run can be taken up at any step, and every rank knows its own share. How many
    samples they have depends on `counts` too, which may go by the clock when a batch is asked for.
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


def load(
    dataset: RecordingDataset, plan: Iterable[list[Request]], *, workers: int
) -> Generator[list[Example], None, None]:
    """The examples of every batch of the plan, in its order. Close it: that ends its processes.

    The plan is asked for AHEAD_PER_WORKER batches of each process before they are wanted. Raises
    LoaderKilled, and what goes wrong with the dataset.
    """
    if not workers:
        yield from (_examples(dataset, requests) for requests in plan)
        return
    with ExitStack() as held:
        helpers = [held.enter_context(_helper(dataset)) for _ in range(workers)]
        asked: deque[Connection] = deque()
        for helper, requests in zip(cycle(helpers), plan, strict=False):
            with _death_told():
                helper.send(requests)
            asked.append(helper)
            if len(asked) > AHEAD_PER_WORKER * workers:
                yield _answer(asked.popleft())
        yield from map(_answer, asked)


def _examples(dataset: RecordingDataset, requests: list[Request]) -> list[Example]:
    return [dataset[request] for request in requests]


def _answer(helper: Connection) -> list[Example]:
    with _death_told():
        answer: list[Example] | Exception = helper.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextmanager
def _death_told() -> Iterator[None]:
    """Nobody else has the other end of a helper's connection, so whenever it dies, though in the
    middle of an answer, the connection is at its end."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise LoaderKilled(
            "a loader process was killed, for want of memory most likely: lower training.workers"
        ) from error


@contextmanager
def _helper(dataset: RecordingDataset) -> Iterator[Connection]:
    """A process that answers requests with their examples, and the connection to it.

    The process is a copy of one with the imports done and nothing open. A copy of this one would
    share its open HDF5 files, and the locks of every other thread; one that starts from nothing
    imports for seconds, and the next waits for it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    process = context.Process(target=_help, args=(dataset, theirs), daemon=True)
    with ours:
        with theirs, _death_told(), _unheard():
            process.start()
        try:
            yield ours
        finally:
            if process.is_alive():  # else its number may be another one's by now
                process.kill()
            process.join()


@contextmanager
def _unheard() -> Iterator[None]:
    """What asks for an end waits meanwhile, for this thread and for what it starts: a process that
    is there, but not yet deaf to what its group is told, would die of it."""
    resource_tracker.ensure_running()  # which would have SIGINT and SIGTERM heard again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, end_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _help(dataset: RecordingDataset, training: Connection) -> None:
    """Draw examples until the training process has gone, or closed the connection.

    What asks for an end reaches the whole group of processes; the training one decides what it
    means. Examples are not sent as tensors: a process that has shared some may abort when it ends
    (torch 2.13).
    """
    for number in end_signals():
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    answers: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_send, args=(answers, training), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            answers.put(pickle.dumps(_tried(dataset, training.recv())))


def _send(answers: SimpleQueue[bytes], training: Connection) -> None:
    """Beside the drawing: an answer is larger than what a connection holds, and has to be waited
    for until the training process takes it."""
    with suppress(OSError):
        while True:
            training.send_bytes(answers.get())


def _tried(dataset: RecordingDataset, requests: list[Request]) -> list[Example] | Exception:
    """The examples, or what the training process is to raise in their place."""
    try:
        return _examples(dataset, requests)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised there
        told = error if _can_travel(error) else SgapsError(f"{type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())  # which does not travel with it
        return told


def _can_travel(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class does then
        return False
    return True
