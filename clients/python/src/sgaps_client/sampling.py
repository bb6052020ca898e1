"""Reading a frame where the server asked to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sample_image(image: NDArray[np.uint8], coords: NDArray[np.float32]) -> NDArray[np.float32]:
    """image uint8 (H, W), coords (N, 2) UV with v down → float32 (N, 3): u, v, value in 0..1."""
    height, width = image.shape
    x = np.minimum((coords[:, 0] * width).astype(np.intp), width - 1)
    y = np.minimum((coords[:, 1] * height).astype(np.intp), height - 1)
    values = image[y, x].astype(np.float32) / 255
    return np.column_stack([coords, values]).astype(np.float32)
