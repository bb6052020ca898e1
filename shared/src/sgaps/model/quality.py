"""How good a model thinks its frames are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def predicted_psnr_db(log_error: NDArray[np.float32]) -> float | None:
    """PSNR of a frame whose cells have these log RMS errors (gh, gw): not below 0.

    No picture of values in 0..1 is worse. None where that is no number: so far from all that it was
    trained on, a model knows nothing.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        psnr_db = -10 * np.log10(np.exp(2 * log_error.astype(np.float64)).mean())
    return max(0.0, float(psnr_db)) if np.isfinite(psnr_db) else None
