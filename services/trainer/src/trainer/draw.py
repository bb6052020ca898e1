"""Samples of whole frames, such as sessions send them: what a model is trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import sample_image
from sgaps.sampling.importance import NOTHING_KNOWN, Map
from sgaps.settings import PatternName, SamplingSettings
from trainer.pictures import Picture

Float32 = NDArray[np.float32]

POINTS_SHARE = 0.25
"""Of the examples drawn for training; the rest have footprints."""
EVEN_SHARE, RELIEF_SHARE = 0.25, 0.25
"""Of both: without guidance, and guided by nothing that the picture shows. The others look where
the frame before was rough, which is where a model expects errors."""
RELIEF_GRID = (6, 8)
CELL_PX = 8
_PATTERNS: tuple[PatternName, ...] = ("jittered_grid", "jittered_grid", "jittered_grid", "random")


@dataclass(frozen=True)
class Kind:
    """How a session samples."""

    footprints: bool = True
    guide: Literal["even", "relief", "detail"] = "even"
    pattern: PatternName | None = None
    """Of points; None = as configured."""
    contrast: float = 1.0
    """How much more a rough place draws than a smooth one: an exponent."""


def any_kind(rng: np.random.Generator) -> Kind:
    """The kind of one session, for training."""
    footprints, guide = rng.random(2)
    return Kind(
        footprints=bool(footprints >= POINTS_SHARE),
        guide=(
            "even"
            if guide < EVEN_SHARE
            else "relief"
            if guide < EVEN_SHARE + RELIEF_SHARE
            else "detail"
        ),
        pattern=_PATTERNS[rng.integers(len(_PATTERNS))],
        contrast=float(rng.uniform(0.5, 1.5)),
    )


def samples(
    picture: Picture,
    before: Picture | None,
    kind: Kind,
    settings: SamplingSettings,
    rng: np.random.Generator,
) -> Float32:
    """picture and the one before it, uint8 (H, W) → (N, 4): u, v, value, footprint."""
    height, width = picture.shape
    count = settings.default_sample_count
    guide = _guide(before, kind, rng, (height, width))
    sampler = AdaptiveUVSampler(
        settings.model_copy(update={"pattern": kind.pattern or settings.pattern}),
        footprints=kind.footprints,
    )
    coords = sampler.sample(guide, count=count, width=width, height=height, rng=rng)
    return sample_image(picture, coords)


def _guide(
    before: Picture | None, kind: Kind, rng: np.random.Generator, size: tuple[int, int]
) -> Map:
    if kind.guide == "relief":
        return _relief(rng, size)
    if kind.guide == "detail" and before is not None:
        return np.asarray(detail(before) ** np.float32(kind.contrast))
    return NOTHING_KNOWN


def detail(picture: Picture) -> Map:
    """How far each cell of 8 x 8 pixels strays from a smooth picture: (gh, gw), RMS in 0..1."""
    height, width = picture.shape
    exact = picture.astype(np.float32) / 255
    cells = (-(-width // CELL_PX), -(-height // CELL_PX))
    coarse = cv2.resize(exact, cells, interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    squared = cv2.resize(np.square(exact - smooth), cells, interpolation=cv2.INTER_AREA)
    return np.sqrt(squared, dtype=np.float32)


def _relief(rng: np.random.Generator, size: tuple[int, int]) -> Map:
    """Smooth hills, squared."""
    hills = rng.random(RELIEF_GRID, np.float32) ** 2
    cells = (-(-size[1] // CELL_PX), -(-size[0] // CELL_PX))
    return np.asarray(cv2.resize(hills, cells, interpolation=cv2.INTER_CUBIC).clip(0), np.float32)
