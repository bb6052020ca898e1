"""Steps of a run: `python -m sgaps_cli.bench.training_loop ours|floor STEPS key=value...`.

Both are `trainer.fit` on recordings, from new weights. Ours loads its batches as the settings say;
the floor has drawn one before, and learns from that again and again. Prints the device, and what
the steps took that came after the first few, and after what was loaded ahead of those.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from sgaps.model import build_model, pick_device, prepare_cpu
from sgaps.recording import SegmentInfo, find_segments
from sgaps.settings import load_settings
from sgaps_cli.bench.model_loop import on_device
from sgaps_cli.bench.processes import Meter
from sgaps_cli.bench.report import Run
from sgaps_cli.bench.training import KEY
from trainer.augment import AugmentationPipeline
from trainer.dataset import Example, ExampleOptions, RecordingDataset, Request
from trainer.fit import fit
from trainer.loader import AHEAD_PER_WORKER
from trainer.schedule import Progress

WARM_UP_STEPS = 2


class OneBatch(RecordingDataset):
    """The first batch of the recordings is all there is, and drawn once."""

    def __init__(self, segments: Sequence[SegmentInfo], options: ExampleOptions) -> None:
        super().__init__(segments, options)
        self._kept: dict[int, Example] = {}

    def __getitem__(self, wanted: int | Request) -> Example:
        index = wanted if isinstance(wanted, int) else wanted.index
        if index not in self._kept:
            self._kept[index] = super().__getitem__(wanted)
        return self._kept[index]

    def batches(
        self, batch_size: int, rng: np.random.Generator, *, most_pixels: int
    ) -> list[NDArray[np.intp]]:
        rng = np.random.default_rng(0)
        return super().batches(batch_size, rng, most_pixels=most_pixels)[:1]


def main(side: str, steps: int, overrides: Sequence[str]) -> tuple[str, Run]:
    alone = [] if side == "ours" else ["training.workers=0"]
    settings = load_settings([*overrides, *alone], environment={})
    prepare_cpu(settings.training.cpu_threads)
    device = pick_device(settings.training.device)
    kind = RecordingDataset if side == "ours" else OneBatch
    augmentation = AugmentationPipeline(settings.augmentation, sentinel=settings.sentinel_value)
    options = ExampleOptions.of(settings, augmentation)
    dataset = kind(find_segments(settings.data.recordings_dir, KEY), options)
    warm_up = WARM_UP_STEPS + AHEAD_PER_WORKER * settings.training.workers
    stop, measuring = threading.Event(), ExitStack()
    meters: list[Meter] = []

    def report(progress: Progress) -> None:
        if progress.step == warm_up:
            meter = Meter(steps * settings.training.batch_size, processes())
            meters.append(measuring.enter_context(meter))
        elif progress.step == warm_up + steps:
            measuring.close()
            stop.set()

    fit(build_model(settings.model).to(device), dataset, settings, stop=stop, report=report)
    return device.type, on_device(meters[0].run, device.type)


def processes() -> dict[str, int]:
    """This one, and those that load for it."""
    loaders = enumerate(multiprocessing.active_children(), 1)
    return {"training": os.getpid(), **{f"loader {n}": child.pid or 0 for n, child in loaders}}


if __name__ == "__main__":
    kind_of_device, run = main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    print(json.dumps({"device": kind_of_device, "run": asdict(run)}))
