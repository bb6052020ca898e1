"""Pictures in gray: as JPEG, and smaller or smoother."""

from __future__ import annotations

import struct
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.errors import CheckpointRejected

Picture: TypeAlias = NDArray[np.uint8]
"""(H, W)"""
Float32: TypeAlias = NDArray[np.float32]

START_OF_IMAGE, MARKER, BASELINE = b"\xff\xd8", b"\xff", 0xC0
MAY_COME_BEFORE = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
"""Tables, comments, applications' own. Any other frame or a scan would be what is decoded."""
HEADER_BYTES = 9
"""Of a JPEG's frame, up to its size."""


def encoded(picture: Picture, quality: int) -> bytes:
    """As JPEG; quality 1 to 100."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def decoded(data: bytes, width: int, height: int) -> Picture:
    """(H, W). Raises CheckpointRejected."""
    if _claimed_size(data) != (width, height):
        raise CheckpointRejected(f"a picture of the atlas is no JPEG of {width}x{height}")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise CheckpointRejected(f"a picture of the atlas cannot be decoded: {error}") from error
    if picture is None or picture.shape != (height, width):
        raise CheckpointRejected("a picture of the atlas cannot be decoded")
    return np.asarray(picture, np.uint8)


def _claimed_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by a JPEG's header: a decoder takes memory for whatever it claims.

    None where it is not baseline, as ours are.
    """
    at = len(START_OF_IMAGE)
    while data[at : at + 1] == MARKER and len(data) >= at + HEADER_BYTES:
        if data[at + 1] == BASELINE:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if data[at + 1] not in MAY_COME_BEFORE:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def resized(picture: Float32, size: tuple[int, int], how: int = cv2.INTER_LINEAR) -> Float32:
    """To a width and height."""
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.float32)


def blurred(picture: Float32, window_px: int) -> Float32:
    """The mean over a square around each pixel."""
    return np.asarray(cv2.blur(picture, (window_px, window_px)), np.float32)
