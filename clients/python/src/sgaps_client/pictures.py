"""PNG in and out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def encoded_png(image: NDArray[np.uint8]) -> bytes:
    """A uint8 (H, W) picture as PNG."""
    _, encoded = cv2.imencode(".png", image)
    return bytes(encoded.tobytes())


def decoded_png(png: bytes) -> NDArray[np.uint8]:
    """PNG as uint8 (H, W)."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(picture, dtype=np.uint8)
