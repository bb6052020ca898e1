"""What was rebuilt, for people to look at."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.baselines import Picture, gray
from trainer.closed_loop import Shown

ERROR_GAIN = 4


def strip(shown: Shown, interpolated: Picture, importance: NDArray[np.float32]) -> Picture:
    """Truth, samples, interpolation, reconstruction, error ×4, importance (gh, gw): in a row."""
    difference = np.abs(shown.truth.astype(int) - shown.frame) * ERROR_GAIN
    error = np.clip(difference, 0, 255).astype(np.uint8)
    heat = cv2.resize(gray(importance), shown.size, interpolation=cv2.INTER_NEAREST)
    row = [shown.truth, mosaic(shown), interpolated, shown.frame, error, np.asarray(heat, np.uint8)]
    return np.hstack(row)


def mosaic(shown: Shown) -> Picture:
    """Every sample painted over the square that it is the mean of; black where nothing is known."""
    width, height = shown.size
    picture = np.zeros((height, width), np.uint8)
    for u, v, value, side in shown.samples[np.argsort(-shown.samples[:, 3])]:
        left, top = round(u * width - side / 2), round(v * height - side / 2)
        picture[max(0, top) : top + int(side), max(0, left) : left + int(side)] = round(value * 255)
    return picture
