"""Whole frames as clients send them (PNG and JPEG), and how far a picture is from one.

Needs OpenCV, which whoever reads them has.
"""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

# What a tag says of a camera must not turn a picture: its samples lie in it as it is.
_AS_IT_IS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
_PNG_BEGINS = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)
"""Width, height."""
_MARKER = re.compile(rb"\xff([^\x00\xff])")
"""Of a JPEG, as libjpeg looks for the next one: past what lies between."""
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length and a content."""
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
MAX_PSNR_DB = 100.0
"""Of pictures that are all but equal: infinity is no number in JSON, and would be every mean."""


def picture_of(keyframe: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Luma, uint8 (H, W); None where it cannot be decoded, or has other sides than its frame.

    Its header is looked at first: a megabyte of PNG may be a gigabyte of pixels.
    """
    if size_of(keyframe) != (width, height):
        return None
    try:
        picture = cv2.imdecode(np.frombuffer(keyframe, np.uint8), _AS_IT_IS)
    except cv2.error:  # it claims to be larger than anything that is decoded
        return None
    is_whole = picture is not None and picture.shape == (height, width)
    return np.asarray(picture, np.uint8) if is_whole else None


def picture_psnr_db(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """PSNR of two pictures (H, W), at most MAX_PSNR_DB."""
    return min(MAX_PSNR_DB, float(cv2.PSNR(picture, truth)))


def size_of(keyframe: bytes) -> tuple[int, int] | None:
    """Width and height, as its header says; None of what is neither PNG nor JPEG."""
    if png := _PNG_BEGINS.match(keyframe):
        return int.from_bytes(png[1]), int.from_bytes(png[2])
    return _size_of_jpeg(keyframe) if keyframe.startswith(b"\xff\xd8") else None


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while marker := _MARKER.search(data, at):
        kind, at = marker[1][0], marker.end()
        if kind in _SIZES:
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 3 : at + 5])
        if kind in {_SCAN, _END}:
            return None
        if kind not in _ALONE:
            at += int.from_bytes(data[at : at + 2])
    return None
