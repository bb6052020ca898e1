"""PNG in and out, and how far a picture is from the truth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_PSNR_DB = 100.0


def psnr_db(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """PSNR of two uint8 (H, W) pictures; MAX_PSNR_DB for equal ones."""
    error = np.square(image.astype(np.float64) - truth).mean() / 255**2
    return float(-10 * np.log10(error)) if error else MAX_PSNR_DB


def encoded_png(image: NDArray[np.uint8]) -> bytes:
    """A uint8 (H, W) picture as PNG."""
    _, encoded = cv2.imencode(".png", image)
    return bytes(encoded.tobytes())


def decoded_png(png: bytes) -> NDArray[np.uint8]:
    """PNG as uint8 (H, W)."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(picture, dtype=np.uint8)
