"""What `sgaps bench model` measures. Needs no torch, as no command but a model's own does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from sgaps_cli.bench.report import Run, Target

SMALL, LARGE = (320, 240), (640, 480)
SAMPLES = 500
GPU_FRAMES = 512
ATLAS_PICTURES = 1000
CORES = 2
REAL_TIME = Target(limit=20, of_ratio=False)
"""Frames per second of the small picture on two cores."""
GPU_P99 = Target(limit=2, of_ratio=False, at_most=True)
"""Milliseconds of one frame of the large one."""
GPU_BATCHES = Target(limit=2000, of_ratio=False)
"""Frames per second of the large one, in the largest batch."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What frames are like, and what works on how many of them."""

    device: str
    """cpu or cuda."""
    threads: int
    """On the CPU."""
    importance: str
    """learned or default: by entropy."""
    width: int
    height: int
    samples: int
    batches: tuple[int, ...]
    """Frames at once, rising: the peak of memory is that of the largest so far."""
    frames: int
    """Of each batch size, at least."""
    atlas_pictures: int = 0
    """Of a level that is known by heart; 0: it is not."""

    def __str__(self) -> str:
        where = "GPU, bf16" if self.device == "cuda" else on_cpu(self.threads)
        atlas = f", atlas of {self.atlas_pictures} pictures" if self.atlas_pictures else ""
        return f"model, {where}, {self.width}x{self.height}, {self.samples} samples{atlas}"

    def throughput_target(self, batch: int) -> Target | None:
        if self.device == "cpu" and self.threads == CORES and self._size == SMALL:
            return REAL_TIME
        return GPU_BATCHES if self._is_specified and batch == max(self.batches) else None

    def latency_target(self, batch: int) -> Target | None:
        return GPU_P99 if self._is_specified and batch == 1 else None

    @property
    def _size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def _is_specified(self) -> bool:
        return self.device == "cuda" and self._size == LARGE and self.samples == SAMPLES


@dataclass(frozen=True, kw_only=True)
class Pace(Run):
    """How quickly frames of one batch size are done."""

    p50_ms: float
    """From the start of a batch, until which a frame may wait, to its end."""
    p99_ms: float


def on_cpu(threads: int) -> str:
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def cpu_pictures(frames: int) -> list[Picture]:
    """As a replica of `sgaps up` serves: on one thread, a frame that came alone, and a full turn
    of four, which are done one by one. Then the target's two cores for one frame."""
    served = Picture(
        device="cpu",
        threads=1,
        importance="learned",
        width=SMALL[0],
        height=SMALL[1],
        samples=SAMPLES,
        batches=(1, 4),
        frames=frames,
    )
    alone = replace(served, batches=(1,))
    return [
        served,
        replace(alone, threads=CORES),
        replace(alone, atlas_pictures=ATLAS_PICTURES),
        replace(alone, width=LARGE[0], height=LARGE[1], frames=max(1, frames // 4)),
    ]


def gpu_pictures() -> list[Picture]:
    """With entropy."""
    return [
        Picture(
            device="cuda",
            threads=1,
            importance="default",
            width=width,
            height=height,
            samples=samples,
            batches=(1, 2, 4, 8, 16, 32, 64),
            frames=GPU_FRAMES,
        )
        for (width, height), samples in product((SMALL, LARGE), (SAMPLES, 2 * SAMPLES))
    ]
