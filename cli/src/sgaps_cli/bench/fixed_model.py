"""The real reconstructor loop around a model that takes a fixed time and always says the same.

`python -m sgaps_cli.bench.fixed_model --secs 0.02 key=value...` is `python -m reconstructor` with
`reconstructor.worker.Worker` and all of its bus, but what rebuilds a batch only sleeps, so that a
capacity is a number and not a matter of this machine. For benches and tests: no service has it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from reconstructor.frame import FrameInput, Reconstruction, Reconstructor, Unchanging
from reconstructor.worker import Worker
from sgaps.service import Service, run_service

VERSION = "fixed"
STRIDE_PX = 8
"""Of the maps, as those of the shipped model."""


class FixedModel(Unchanging):
    """Gives every frame the same, after so many seconds for a batch and some more at random."""

    def __init__(self, *, frames_at_once: int, secs: float, jitter_secs: float) -> None:
        super().__init__(version=VERSION, frames_at_once=frames_at_once)
        self._secs, self._jitter_secs = secs, jitter_secs

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        secs = self._secs + random.uniform(0, self._jitter_secs)
        if secs:  # to sleep for no time takes time too: the kernel may be late
            time.sleep(secs)
        return [_constant(frame.width, frame.height) for frame in frames]


@lru_cache(maxsize=8)
def _constant(width: int, height: int) -> Reconstruction:
    """A black frame, and errors that grow from its first pixel to its last."""
    grid = max(1, height // STRIDE_PX), max(1, width // STRIDE_PX)
    return Reconstruction(
        image=np.zeros((height, width), np.uint8),
        grid=grid,
        entropy=None,
        log_error=np.linspace(-4, -1, grid[0] * grid[1], dtype=np.float32).reshape(grid),
        predicted_psnr_db=None,
        model_version=VERSION,
    )


def serve(build: Callable[..., Reconstructor]) -> int:
    """Run a reconstructor with the model of the command line; the exit status of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames-at-once", type=int, default=16)
    parser.add_argument("--secs", type=float, default=0.0)
    parser.add_argument("--jitter-secs", type=float, default=0.0)
    options, overrides = parser.parse_known_args()
    model = build(**vars(options))

    async def main(service: Service) -> None:
        service.describe = lambda: {"method": VERSION, "serving": model.serving()}
        consumer = Worker(service, model).consumer
        service.watch(consumer)
        await consumer.run(service.stop)

    return run_service("reconstructor", main, overrides)


if __name__ == "__main__":
    sys.exit(serve(FixedModel))
