"""How good a model thinks its frames are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def predicted_psnr_db(log_error: NDArray[np.float32]) -> float:
    """PSNR of a frame whose cells have these log RMS errors (gh, gw)."""
    return float(-10 * np.log10(np.exp(2 * log_error.astype(np.float64)).mean()))
