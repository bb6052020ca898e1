"""What a model is measured against: interpolation, frames one has anyway, and an oracle."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

Picture = NDArray[np.uint8]
"""(H, W)."""
Samples = NDArray[np.float32]
"""(N, 4): u, v, value, footprint."""

INPAINT_RADIUS_PX = 3


def telea(samples: Samples, width: int, height: int) -> Picture:
    """Telea (2004), by OpenCV, from the middle pixels of the samples."""
    sparse, known = on_black(samples, width, height)
    filled = cv2.inpaint(sparse, (~known).astype(np.uint8), INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
    return np.asarray(filled, dtype=np.uint8)


def linear(samples: Samples, width: int, height: int) -> Picture:
    """Linear on the Delaunay triangles of the samples; the nearest sample outside of them."""
    x, y = samples[:, 0] * width - 0.5, samples[:, 1] * height - 0.5
    at = np.column_stack([x, y])
    grid = np.meshgrid(np.arange(width), np.arange(height))
    inside = LinearNDInterpolator(at, samples[:, 2])(*grid)  # (H, W), NaN outside
    outside = NearestNDInterpolator(at, samples[:, 2])(*grid)
    return gray(np.where(np.isnan(inside), outside, inside))


def dct_oracle(truth: Picture, count: int) -> Picture:
    """The `count` largest coefficients of the whole frame: no one who sees less knows them."""
    coefficients = dctn(truth.astype(np.float64) / 255, norm="ortho")
    smallest = np.partition(np.abs(coefficients).ravel(), -count)[-count]
    kept = np.where(np.abs(coefficients) >= smallest, coefficients, 0)
    return gray(idctn(kept, norm="ortho"))


def on_black(samples: Samples, width: int, height: int) -> tuple[Picture, NDArray[np.bool_]]:
    """The samples on a black frame, and where they are."""
    image = np.zeros((height, width), np.uint8)
    known = np.zeros(image.shape, bool)
    x = np.minimum((samples[:, 0] * width).astype(int), width - 1)
    y = np.minimum((samples[:, 1] * height).astype(int), height - 1)
    image[y, x], known[y, x] = gray(samples[:, 2]), True
    return image, known


def gray(values: NDArray[np.floating]) -> Picture:
    """0..1 → uint8."""
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
