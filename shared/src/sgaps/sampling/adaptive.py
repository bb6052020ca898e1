"""The adaptive sampler: most samples where the model is unsure, the rest everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.importance import Map
from sgaps.sampling.patterns import Coords, Pixels, sample_pattern, to_coords
from sgaps.settings import SamplingSettings

CANDIDATES_PER_SAMPLE = 2
"""Drawn beyond the need, because some fall too close to an accepted one."""


class AdaptiveUVSampler:
    """Draws a share of the samples by importance and a share from the uniform pattern.

    No pixel is drawn twice, and samples keep `min_spacing_px` (Chebyshev) from one another as
    long as the frame has room for that; then the spacing is halved until they fit.
    """

    def __init__(self, settings: SamplingSettings) -> None:
        self._settings = settings

    def sample(
        self, importance: Map, *, count: int, width: int, height: int, rng: np.random.Generator
    ) -> Coords:
        """importance (gh, gw) ≥ 0 → (count, 2) UV. Raises ValueError if count > pixels."""
        pattern = self._pattern_pixels(count, width, height, rng)
        if not _is_informative(importance):
            return to_coords(pattern, width=width, height=height)
        wanted = round(count * self._settings.importance_share)
        important = _draw_by_importance(
            importance, CANDIDATES_PER_SAMPLE * wanted, width, height, rng
        )
        taken = _Taken(width, height)
        accepted: list[int] = []
        spacing_px = self._settings.min_spacing_px
        while True:
            accepted += taken.take(important, wanted - len(accepted), spacing_px)
            # The uniform share comes from the whole pattern in random order, so that a part
            # of it still covers the frame.
            accepted += taken.take(rng.permutation(pattern), count - len(accepted), spacing_px)
            if len(accepted) == count or spacing_px == 1:
                break
            spacing_px //= 2
        missing = count - len(accepted)
        if missing:
            accepted += rng.choice(taken.free(), missing, replace=False).tolist()
        return to_coords(np.array(accepted, np.intp), width=width, height=height)

    def _pattern_pixels(
        self, count: int, width: int, height: int, rng: np.random.Generator
    ) -> Pixels:
        coords = sample_pattern(
            self._settings.pattern, count=count, width=width, height=height, rng=rng
        )
        x = (coords[:, 0] * width).astype(np.intp)
        y = (coords[:, 1] * height).astype(np.intp)
        return y * width + x


class _Taken:
    """Which pixels are taken, and which are too close to a taken one."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._taken = np.zeros((height, width), bool)

    def take(self, candidates: Pixels, count: int, spacing_px: int) -> list[int]:
        """Accept up to `count` candidates, in order, that keep the spacing."""
        accepted: list[int] = []
        reach = spacing_px - 1
        for pixel in candidates.tolist():
            if len(accepted) >= count:
                break
            y, x = divmod(pixel, self._width)
            near = self._taken[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if not near.any():
                self._taken[y, x] = True
                accepted.append(pixel)
        return accepted

    def free(self) -> Pixels:
        return np.flatnonzero(~self._taken)


def _is_informative(importance: NDArray[np.float32]) -> bool:
    if importance.size == 0 or not np.isfinite(importance).all():
        return False
    return bool((importance >= 0).all() and importance.max() > importance.min())


def _draw_by_importance(
    importance: Map, count: int, width: int, height: int, rng: np.random.Generator
) -> Pixels:
    """Systematic resampling over the cells (Kitagawa 1996): multinomial draws clump.

    The positions come in random order; each is jittered within its cell.
    """
    mass = importance.astype(np.float64).ravel()
    steps = (np.arange(count) + rng.random()) / count
    cells = np.searchsorted(np.cumsum(mass / mass.sum()), steps).clip(max=mass.size - 1)
    row, column = np.divmod(rng.permutation(cells), importance.shape[1])
    x = (column + rng.random(count)) * width / importance.shape[1]
    y = (row + rng.random(count)) * height / importance.shape[0]
    x_px = np.minimum(x.astype(np.intp), width - 1)
    pixels: Pixels = np.minimum(y.astype(np.intp), height - 1) * width + x_px
    return pixels
