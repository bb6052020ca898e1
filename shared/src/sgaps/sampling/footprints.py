"""What a sample covers: a point, or a square of pixels whose mean is sent.

A GPU reads the mean of an aligned square from a mip level at the price of a point.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MAX_FOOTPRINT_PX = 64
FOOTPRINTS_PX = tuple(2**n for n in range(MAX_FOOTPRINT_PX.bit_length()))
"""Sides of the squares; 1 is a point."""
IS_FOOTPRINT = np.isin(np.arange(256), FOOTPRINTS_PX)
"""(256,) bool: whether a byte is one of them."""
POWER_OF_TWO_MANTISSA = 0.5
UV_STEPS = 65535
VALUE_STEPS = 255
"""A coordinate travels as a multiple of 1/65,535, a value as one of 1/255."""

Coords: TypeAlias = NDArray[np.float32]
"""(N, 3): u, v, footprint."""
Samples: TypeAlias = NDArray[np.float32]
"""(N, 4): u, v, value, footprint; (N, 6) of a picture in color, whose values are three."""


def are_footprints(sides: NDArray[np.floating]) -> bool:
    """(N, …): whether all are sides of squares."""
    mantissas, _ = np.frexp(sides)  # what `isin` finds out in three times the time; NaN stays NaN
    return bool(
        ((mantissas == POWER_OF_TWO_MANTISSA) & (sides >= 1) & (sides <= MAX_FOOTPRINT_PX)).all()
    )


def uv_steps(coords: NDArray[np.floating]) -> NDArray[np.uint16]:
    """(N, 2 or more): u, v in 0..1 → (N, 2) as they travel."""
    steps: NDArray[np.float64] = np.multiply(coords[:, :2], UV_STEPS, dtype=np.float64)
    return np.asarray(np.rint(steps), "<u2")


def as_points(uv: NDArray[np.float32]) -> Coords:
    """(N, 2) → (N, 3): every footprint is one pixel."""
    return np.column_stack([uv, np.ones(len(uv), np.float32)])


def sample_image(image: NDArray[np.uint8], coords: Coords) -> Samples:
    """image uint8 (H, W) or (H, W, 3), coords (N, 3) → (N, 4) or (N, 6).

    The value is the mean of each square in 0..1, in steps of 1/255: a byte, as a GPU hands it over.

    A square that reaches out of the image is cut at its border.
    """
    height, width = image.shape[:2]
    channels = image.reshape(height, width, -1)
    side = coords[:, 2].astype(np.intp)
    left = _first_pixel(coords[:, 0], side, width)
    top = _first_pixel(coords[:, 1], side, height)
    right, bottom = np.minimum(left + side, width), np.minimum(top + side, height)
    left, top = np.maximum(left, 0), np.maximum(top, 0)
    # Sums may wrap around: what a square adds to them is exact all the same.
    summed = np.zeros((height + 1, width + 1, channels.shape[2]), np.uint32)
    down = channels.cumsum(0, dtype=np.uint32, out=summed[1:, 1:])
    down.cumsum(1, out=down)
    total = summed[bottom, right] - summed[top, right] - summed[bottom, left] + summed[top, left]
    mean = np.round(total / ((right - left) * (bottom - top))[:, None]) / 255  # (N, C)
    return np.column_stack([coords[:, :2], mean, side]).astype(np.float32)


def sample_error(samples: Samples, image: NDArray[np.uint8]) -> float | None:
    """How far samples (N, 4) are from image uint8 (H, W) at their places: the mean, in 0..1.

    None without samples. Noise and a JPEG make some hundredths; one picture sampled upside down, or
    in another unit, a tenth or more.
    """
    if not len(samples):
        return None
    true = sample_image(image, samples[:, [0, 1, 3]])
    return float(np.abs(samples[:, 2] - true[:, 2]).mean())


def mosaic(samples: Samples, width: int, height: int) -> NDArray[np.uint8]:
    """(N, 4) → (H, W): each sample painted over its square, the smaller over the larger ones.

    Black where nothing is known.
    """
    picture = np.zeros((height, width), np.uint8)
    for u, v, value, side in samples[np.argsort(-samples[:, 3])]:
        left, top = round(u * width - side / 2), round(v * height - side / 2)
        picture[max(0, top) : top + int(side), max(0, left) : left + int(side)] = round(value * 255)
    return picture


def _first_pixel(
    centre: NDArray[np.float32], side: NDArray[np.intp], length: int
) -> NDArray[np.intp]:
    """Of the square around a centre in 0..1: a point is the pixel that it lies in."""
    at = centre.astype(np.float64) * length
    square = np.round(at - side / 2).astype(np.intp)
    return np.where(side == 1, np.minimum(at.astype(np.intp), length - 1), square)
