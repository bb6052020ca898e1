"""Inpainting, as OpenCV has it: Telea (2004) and Navier-Stokes (Bertalmio et al. 2001)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.footprints import VALUE_STEPS, Samples
from sgaps.settings import InpaintingName

_FLAGS = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}


def inpainted(
    samples: Samples, width: int, height: int, *, method: InpaintingName, radius_px: int
) -> NDArray[np.uint8]:
    """(N, 4) → (H, W), from the middle pixels of the samples."""
    sparse, known = on_black(samples, width, height)
    filled = cv2.inpaint(sparse, (~known).astype(np.uint8), radius_px, _FLAGS[method])
    return np.asarray(filled, dtype=np.uint8)


def on_black(
    samples: Samples, width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The middle pixels of samples (N, 4) on a black frame (H, W), and where they are (H, W)."""
    image = np.zeros((height, width), np.uint8)
    known = np.zeros(image.shape, bool)
    x = np.minimum((samples[:, 0] * width).astype(np.intp), width - 1)
    y = np.minimum((samples[:, 1] * height).astype(np.intp), height - 1)
    values = np.round(samples[:, 2] * VALUE_STEPS).astype(np.uint8)
    image[y, x], known[y, x] = values, True
    return image, known
