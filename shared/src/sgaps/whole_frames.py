"""Whole frames as clients send them: PNG and JPEG. Needs OpenCV, which whoever reads them has."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# What a tag says of a camera must not turn a picture: its samples lie in it as it is.
_AS_IT_IS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION


def picture_of(keyframe: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Luma, uint8 (H, W); None where it cannot be decoded, or has other sides than its frame."""
    picture = decoded(keyframe)
    is_whole = picture is not None and picture.shape == (height, width)
    return picture if is_whole else None


def decoded(keyframe: bytes) -> NDArray[np.uint8] | None:
    """Luma, uint8 (H, W); None where it cannot be decoded."""
    try:
        picture = cv2.imdecode(np.frombuffer(keyframe, np.uint8), _AS_IT_IS)
    except cv2.error:  # it is empty, or claims to be larger than anything that is decoded
        return None
    return None if picture is None else np.asarray(picture, np.uint8)
