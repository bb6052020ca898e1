"""The adaptive sampler: most samples where the model is unsure, the rest everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.importance import Map
from sgaps.sampling.patterns import Coords, Pixels, require_room, sample_pattern, to_coords
from sgaps.settings import SamplingSettings

DRAWS_PER_SAMPLE = 3
"""Draws by importance for each sample wanted: some fall too close to an accepted one."""


class AdaptiveUVSampler:
    """Draws a share of the samples by importance and a share from the uniform pattern.

    No pixel is drawn twice, and samples keep `min_spacing_px` (Chebyshev) from one another.
    Where no free pixel is that far from all samples any more, the spacing shrinks by one pixel
    at a time until the rest fits; what importance cannot place becomes part of the pattern.
    """

    def __init__(self, settings: SamplingSettings) -> None:
        self._settings = settings

    def sample(
        self, importance: Map, *, count: int, width: int, height: int, rng: np.random.Generator
    ) -> Coords:
        """importance (gh, gw) ≥ 0 → (count, 2) UV. Raises ValueError if count > pixels.

        A map that tells nothing (constant, empty, negative, not finite) gives the pattern alone.
        """
        require_room(count, width, height)
        if not _is_informative(importance):
            return self._pattern(count, width, height, rng)
        wanted = round(count * self._settings.importance_share)
        draws = _draw_by_importance(importance, wanted, width, height, rng)
        placed = _Placed(count, width, height)
        for spacing_px in range(self._first_spacing_px(count, width, height), 0, -1):
            placed.keep(spacing_px)
            placed.take(draws, upto=wanted)
            if placed.missing:
                rest = self._pattern(placed.missing, width, height, rng)
                placed.take(_pixels_of(rest, width, height), upto=count)
            placed.fill(rng)
            # A later, closer round may add only what is missing, wherever it falls.
            wanted = count
            if not placed.missing:
                break
        return to_coords(np.array(placed.pixels, np.intp), width=width, height=height)

    def _pattern(self, count: int, width: int, height: int, rng: np.random.Generator) -> Coords:
        return sample_pattern(
            self._settings.pattern, count=count, width=width, height=height, rng=rng
        )

    def _first_spacing_px(self, count: int, width: int, height: int) -> int:
        """The largest spacing at which so many samples could fit at all."""
        spacing_px = min(self._settings.min_spacing_px, max(width, height))
        while -(-width // spacing_px) * -(-height // spacing_px) < count:
            spacing_px -= 1
        return spacing_px
