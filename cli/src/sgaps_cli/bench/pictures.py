"""What `sgaps bench model` measures. Needs no torch, as no command but a model's own does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from sgaps_cli.bench.report import Run, Target

SMALL, LARGE = (320, 240), (640, 480)
SAMPLES = 500
GPU_FRAMES = 512
ATLAS_PICTURES = 1000
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
        where = "GPU, bf16" if self.device == "cuda" else f"CPU, {self.threads} threads"
        atlas = f", atlas of {self.atlas_pictures} pictures" if self.atlas_pictures else ""
        return f"model, {where}, {self.width}x{self.height}, {self.samples} samples{atlas}"

    def throughput_target(self, batch: int) -> Target | None:
        if self.device == "cpu" and self._size == SMALL and not self.atlas_pictures:
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
class Pace:
    """How quickly frames of one batch size are done."""

    run: Run
    p50_ms: float
    """From the start of a batch, until which a frame may wait, to its end."""
    p99_ms: float


def cpu_pictures(frames: int) -> list[Picture]:
    """On two threads, where `sgaps up` gives a replica one; the importance is the same."""
    small = Picture(
        device="cpu",
        threads=2,
        importance="learned",
        width=SMALL[0],
        height=SMALL[1],
        samples=SAMPLES,
        batches=(1, 2, 4, 8, 16),
        frames=frames,
    )
    large = replace(
        small, width=LARGE[0], height=LARGE[1], batches=(1, 4), frames=max(1, frames // 4)
    )
    by_heart = replace(small, batches=(1,), atlas_pictures=ATLAS_PICTURES)
    return [small, by_heart, large]


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
