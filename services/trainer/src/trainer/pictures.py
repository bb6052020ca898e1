"""Pictures as arrays, and as something to look at."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Picture: TypeAlias = NDArray[np.uint8]
"""(H, W)."""
Samples: TypeAlias = NDArray[np.float32]
"""(N, 4): u, v, value, footprint."""


def gray(values: NDArray[np.floating]) -> Picture:
    """0..1 → uint8."""
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)


def on_black(samples: Samples, width: int, height: int) -> tuple[Picture, NDArray[np.bool_]]:
    """The middle pixels of samples on a black frame, and where they are."""
    image = np.zeros((height, width), np.uint8)
    known = np.zeros(image.shape, bool)
    x = np.minimum((samples[:, 0] * width).astype(int), width - 1)
    y = np.minimum((samples[:, 1] * height).astype(int), height - 1)
    image[y, x], known[y, x] = gray(samples[:, 2]), True
    return image, known


def mosaic(samples: Samples, width: int, height: int) -> Picture:
    """Every sample painted over the square that it is the mean of; black where nothing is known."""
    picture = np.zeros((height, width), np.uint8)
    for u, v, value, side in samples[np.argsort(-samples[:, 3])]:
        left, top = round(u * width - side / 2), round(v * height - side / 2)
        picture[max(0, top) : top + int(side), max(0, left) : left + int(side)] = round(value * 255)
    return picture
