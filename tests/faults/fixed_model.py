"""Test only: the real reconstructor loop around a model that takes a fixed time, or dies.

`python -m faults.fixed_model --secs 0.02 key=value...` is `python -m reconstructor` with
`reconstructor.worker.Worker` and all of its bus, but what rebuilds a batch only sleeps, so that a
capacity is a number and not a matter of this machine. A frame whose state vector begins with
POISON aborts the process, as a bug in native code would: no `except` ever sees it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence

import numpy as np

from reconstructor.frame import FrameInput, Reconstruction
from reconstructor.worker import Worker
from sgaps.service import Service, run_service

POISON = 666.0
VERSION = "fixed"
GRID = (6, 8)


class FixedModel:
    """Says nothing about a frame, after so many seconds for a batch and some more at random."""

    def __init__(self, *, frames_at_once: int, secs: float, jitter_secs: float) -> None:
        self.frames_at_once = frames_at_once
        self._secs, self._jitter_secs = secs, jitter_secs

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        if any((frame.state[:1] == POISON).any() for frame in frames):  # a probe has no state
            os.abort()
        time.sleep(self._secs + random.uniform(0, self._jitter_secs))
        return [_nothing(frame) for frame in frames]

    def serving(self) -> dict[str, str]:
        return {"default": VERSION}

    def refresh(self) -> int:
        return 0

    def warm_up(self) -> None:
        return


def _nothing(frame: FrameInput) -> Reconstruction:
    return Reconstruction(
        image=np.zeros((frame.height, frame.width), np.uint8),
        grid=GRID,
        entropy=None,
        log_error=None,
        predicted_psnr_db=None,
        model_version=VERSION,
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames-at-once", type=int, default=16)
    parser.add_argument("--secs", type=float, default=0.0)
    parser.add_argument("--jitter-secs", type=float, default=0.0)
    options, overrides = parser.parse_known_args()
    model = FixedModel(**vars(options))

    async def serve(service: Service) -> None:
        service.describe = lambda: {"method": VERSION, "serving": model.serving()}
        consumer = Worker(service, model).consumer
        service.watch(consumer)
        await consumer.run(service.stop)

    return run_service("reconstructor", serve, overrides)


if __name__ == "__main__":
    sys.exit(main())
