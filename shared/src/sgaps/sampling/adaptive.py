"""The adaptive sampler: most samples where the model is unsure, the rest everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.footprints import Coords, as_points
from sgaps.sampling.importance import NOTHING_KNOWN, Map, is_informative
from sgaps.sampling.patterns import UV, Pixels, require_room, sample_pattern, to_uv
from sgaps.sampling.quadtree import split_tiling
from sgaps.settings import SamplingSettings

DRAWS_PER_SAMPLE = 3
"""Draws by importance for each sample wanted: some fall too close to an accepted one."""


class AdaptiveUVSampler:
    """Places a share of the samples by importance and a share everywhere.

    Squares are the leaves of a quadtree (see `quadtree.py`). For clients that only sample points:
    no pixel is drawn twice, and samples keep `min_spacing_px` (Chebyshev) from one another.
    Only when no free pixel is so far from all samples does the spacing shrink, one pixel at a
    time, until the rest fits. What importance cannot place is left to the pattern.
    """

    def __init__(self, settings: SamplingSettings, *, footprints: bool) -> None:
        self._settings = settings
        self._footprints = footprints

    def sample(
        self, importance: Map, *, count: int, width: int, height: int, rng: np.random.Generator
    ) -> Coords:
        """importance (gh, gw) ≥ 0 → (count, 3). Raises ValueError if count > pixels.

        A map that tells nothing (constant, empty, negative, not finite) gives the pattern alone.
        """
        require_room(count, width, height)
        known = is_informative(importance)
        if self._footprints:
            return split_tiling(
                importance if known else NOTHING_KNOWN,
                guided_share=self._settings.importance_share if known else 0.0,
                count=count,
                width=width,
                height=height,
                rng=rng,
            )
        if not known:
            return as_points(self._pattern(count, width, height, rng))
        return as_points(self._points(importance, count, width, height, rng))

    def _points(
        self, importance: Map, count: int, width: int, height: int, rng: np.random.Generator
    ) -> UV:
        """(count, 2)."""
        wanted = round(count * self._settings.importance_share)
        draws = _draw_by_importance(importance, wanted, width, height, rng)
        placed = _Placed(count, width, height)
        spacing_px = self._first_spacing_px(count, width, height)
        while placed.missing:
            placed.keep(spacing_px)
            wanted -= placed.take(draws, wanted)
            if placed.missing:
                pattern = self._pattern(placed.missing, width, height, rng)
                placed.take(_pixels_of(pattern, width, height), placed.missing)
            placed.fill(rng)
            spacing_px -= 1
        return to_uv(np.array(placed.pixels, np.intp), width=width, height=height)

    def _pattern(self, count: int, width: int, height: int, rng: np.random.Generator) -> UV:
        return sample_pattern(
            self._settings.pattern, count=count, width=width, height=height, rng=rng
        )

    def _first_spacing_px(self, count: int, width: int, height: int) -> int:
        """The largest spacing, up to the configured one, that could hold so many samples."""
        spacing_px = min(self._settings.min_spacing_px, max(width, height))
        while -(-width // spacing_px) * -(-height // spacing_px) < count:
            spacing_px -= 1
        return spacing_px


class _Placed:
    """The samples placed so far, and the pixels too close to one of them."""

    def __init__(self, count: int, width: int, height: int) -> None:
        self.pixels: list[int] = []
        self._count = count
        self._width = width
        self._blocked = np.zeros((height, width), bool)
        self._reach_px = 0

    @property
    def missing(self) -> int:
        return self._count - len(self.pixels)

    def keep(self, spacing_px: int) -> None:
        """Block what is closer than this to a sample, and nothing else."""
        self._reach_px = spacing_px - 1
        self._blocked[:] = False
        for pixel in self.pixels:
            self._block(*divmod(pixel, self._width))

    def take(self, candidates: Pixels, limit: int) -> int:
        """Place up to `limit` of the candidates, in order, as spacing allows; how many."""
        before, stop = len(self.pixels), len(self.pixels) + min(limit, self.missing)
        for pixel in candidates.tolist():
            if len(self.pixels) == stop:
                break
            y, x = divmod(pixel, self._width)
            if not self._blocked[y, x]:
                self._block(y, x)
                self.pixels.append(pixel)
        return len(self.pixels) - before

    def fill(self, rng: np.random.Generator) -> None:
        """Place what is missing at random, until it is there or no pixel is left open."""
        while self.missing:
            is_open = np.flatnonzero(~self._blocked)
            if not is_open.size:
                break
            drawn = rng.choice(is_open, min(self.missing, is_open.size), replace=False)
            self.take(drawn, self.missing)

    def _block(self, y: int, x: int) -> None:
        reach = self._reach_px
        self._blocked[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True


def _pixels_of(coords: UV, width: int, height: int) -> Pixels:
    x = np.minimum((coords[:, 0] * width).astype(np.intp), width - 1)
    y = np.minimum((coords[:, 1] * height).astype(np.intp), height - 1)
    pixels: Pixels = y * width + x
    return pixels


def _draw_by_importance(
    importance: Map, count: int, width: int, height: int, rng: np.random.Generator
) -> Pixels:
    """`count` pixels that follow importance, then as many again and again as spares."""
    mass = importance.astype(np.float64).ravel()
    cells = np.concatenate([_resample(mass, count, rng) for _ in range(DRAWS_PER_SAMPLE)])
    row, column = np.divmod(cells, importance.shape[1])
    u = (column + rng.random(len(cells))) / importance.shape[1]
    v = (row + rng.random(len(cells))) / importance.shape[0]
    return _pixels_of(np.stack([u, v], axis=1).astype(np.float32), width, height)


def _resample(mass: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(count,) cells in random order, each within one of its expected number of times.

    Systematic resampling (Kitagawa 1996): one random offset, then equal steps through the
    cumulated mass. Independent draws clump.
    """
    cumulated = np.cumsum(mass)
    steps = (np.arange(count) + rng.random()) * (cumulated[-1] / max(count, 1))
    return rng.permutation(np.searchsorted(cumulated, steps, side="right").clip(max=mass.size - 1))
