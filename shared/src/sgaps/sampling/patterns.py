"""Sampling patterns that look at no picture: exactly `count` different pixels, as UV centres."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sgaps.settings import PatternName

UV = NDArray[np.float32]
"""(N, 2): u, v in 0..1, at pixel centres; v grows down."""
Pixels = NDArray[np.intp]
"""(N,): flat pixel indices y * width + x."""


def sample_pattern(
    name: PatternName, *, count: int, width: int, height: int, rng: np.random.Generator
) -> UV:
    """`count` different pixels in a pattern. Raises ValueError if there are not so many."""
    require_room(count, width, height)
    pixels = _PATTERNS[name](count, width, height, rng)
    exact = _exactly(pixels, count, width * height, rng)
    return to_uv(exact, width=width, height=height)


def require_room(count: int, width: int, height: int) -> None:
    """Raises ValueError unless the frame has so many pixels."""
    if not 1 <= count <= width * height:
        raise ValueError(f"{count} samples of {width}x{height} pixels")


def to_uv(pixels: Pixels, *, width: int, height: int) -> UV:
    """(N, 2) centres of the pixels as UV."""
    xy = np.stack([pixels % width, pixels // width], axis=1)
    return ((xy + 0.5) / [width, height]).astype(np.float32)


def _grid_shape(count: int, width: int, height: int) -> tuple[int, int]:
    """Columns and rows of at least `count` cells as square as the aspect ratio allows."""
    columns = min(width, max(1, round(math.sqrt(count * width / height))))
    rows = min(height, math.ceil(count / columns))
    return min(width, math.ceil(count / rows)), rows


def _cells(count: int, width: int, height: int, offsets: NDArray[np.float64] | float) -> Pixels:
    """Pixel at `offsets` (0..1, scalar or (rows*columns, 2)) inside every cell of the grid."""
    columns, rows = _grid_shape(count, width, height)
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    xy = (grid + offsets) * [width / columns, height / rows]
    x = np.minimum(xy[:, 0].astype(np.intp), width - 1)
    y = np.minimum(xy[:, 1].astype(np.intp), height - 1)
    return y * width + x


def _uniform_grid(count: int, width: int, height: int, _: np.random.Generator) -> Pixels:
    return _cells(count, width, height, 0.5)


def _stratified(count: int, width: int, height: int, rng: np.random.Generator) -> Pixels:
    columns, rows = _grid_shape(count, width, height)
    return _cells(count, width, height, rng.random((rows * columns, 2)))


def _jittered_grid(count: int, width: int, height: int, rng: np.random.Generator) -> Pixels:
    """A grid whose points stay in the middle half of their cells: no two come close."""
    columns, rows = _grid_shape(count, width, height)
    return _cells(count, width, height, 0.25 + rng.random((rows * columns, 2)) / 2)


def _checkerboard(count: int, width: int, height: int, _: np.random.Generator) -> Pixels:
    """Every other cell of a grid with twice as many."""
    doubled = min(2 * count, width * height)
    columns, _rows = _grid_shape(doubled, width, height)
    pixels = _cells(doubled, width, height, 0.5)
    row, column = np.divmod(np.arange(len(pixels)), columns)
    black: Pixels = pixels[(row + column) % 2 == 0]
    return black


def _random(count: int, width: int, height: int, rng: np.random.Generator) -> Pixels:
    return rng.choice(width * height, count, replace=False)


_PATTERNS: dict[PatternName, Callable[[int, int, int, np.random.Generator], Pixels]] = {
    "uniform_grid": _uniform_grid,
    "random": _random,
    "stratified": _stratified,
    "checkerboard": _checkerboard,
    "jittered_grid": _jittered_grid,
}


def _exactly(pixels: Pixels, count: int, pixel_count: int, rng: np.random.Generator) -> Pixels:
    """Thin evenly where there are too many, fill at random where there are too few."""
    distinct = np.unique(pixels)
    if len(distinct) >= count:
        return distinct[np.linspace(0, len(distinct) - 1, count).round().astype(np.intp)]
    free = np.setdiff1d(np.arange(pixel_count), distinct, assume_unique=True)
    missing = rng.choice(free, count - len(distinct), replace=False)
    return np.concatenate([distinct, missing])
