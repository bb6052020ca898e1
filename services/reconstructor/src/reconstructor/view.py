"""A reconstruction as pictures for people."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstructor.frame import Reconstruction
from sgaps.messages import FrameAccepted, ViewEncoded


def encode_view(frame: FrameAccepted, result: Reconstruction) -> ViewEncoded:
    """PNG, because people measure PSNR on it."""
    return ViewEncoded(
        session_id=frame.session_id,
        frame_id=frame.frame_id,
        model_version=result.model_version,
        reconstruction_png=_png(result.image),
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return bytes(encoded.tobytes())
