"""Pictures as arrays, and as something to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.footprints import Samples, mosaic

ERROR_GAIN = 4
Picture: TypeAlias = NDArray[np.uint8]
"""(H, W)."""


def gray(values: NDArray[np.floating]) -> Picture:
    """0..1 → uint8."""
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)


def strip(
    truth: Picture,
    samples: Samples,
    frame: Picture,
    importance: NDArray[np.float32],
    *,
    interpolated: Picture | None = None,
) -> Picture:
    """Truth, samples, interpolation if given, frame, error ×4, importance (gh, gw): in a row."""
    height, width = truth.shape
    difference = np.abs(truth.astype(int) - frame) * ERROR_GAIN
    error = np.clip(difference, 0, 255).astype(np.uint8)
    heat = cv2.resize(gray(importance), (width, height), interpolation=cv2.INTER_NEAREST)
    between = [] if interpolated is None else [interpolated]
    return np.hstack([truth, mosaic(samples, width, height), *between, frame, error, heat])


def stacked(strips: Sequence[Picture]) -> Picture:
    """One below the other; what is narrower (another game's) is black on its right."""
    width = max(strip.shape[1] for strip in strips)
    return np.vstack([np.pad(s, ((0, 0), (0, width - s.shape[1]))) for s in strips])
