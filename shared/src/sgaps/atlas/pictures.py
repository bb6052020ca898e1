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
Jpeg: TypeAlias = bytes | memoryview

SHRINK = 4
"""Depths are looked for in pictures of so many times fewer rows and columns."""

START_OF_IMAGE, MARKER, BASELINE = b"\xff\xd8", b"\xff", 0xC0
MAY_COME_BEFORE = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
"""Tables, comments, applications' own. Any other frame or a scan would be what is decoded."""
HEADER_BYTES = 9
"""Of a JPEG's frame, up to its size."""


def encoded(picture: Picture, quality: int) -> bytes:
    """As JPEG; quality 1 to 100."""
    how = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, data = cv2.imencode(".jpg", picture, how)
    return data.tobytes()


def decoded(data: Jpeg, width: int, height: int) -> Picture:
    """(H, W). Raises CheckpointRejected."""
    return _decoded(data, width, height, how=cv2.IMREAD_GRAYSCALE)


def decoded_small(data: Jpeg, width: int, height: int) -> Picture:
    """As `shrunk`, nearly, in two thirds of the time of `decoded`. Raises CheckpointRejected."""
    return _decoded(data, width, height, how=cv2.IMREAD_REDUCED_GRAYSCALE_4, shrink=SHRINK)


def _decoded(data: Jpeg, width: int, height: int, *, how: int, shrink: int = 1) -> Picture:
    if _claimed_size(data) != (width, height):
        raise CheckpointRejected(f"a picture of the atlas is no JPEG of {width}x{height}")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error as error:
        raise CheckpointRejected(f"a picture of the atlas cannot be decoded: {error}") from error
    if picture is None or picture.shape != (-(-height // shrink), -(-width // shrink)):
        raise CheckpointRejected("a picture of the atlas cannot be decoded")
    return np.asarray(picture, np.uint8)


def _claimed_size(data: Jpeg) -> tuple[int, int] | None:
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


def shrunk(picture: Picture) -> Picture:
    """(H, W) → (H / SHRINK, W / SHRINK), rounded up."""
    height, width = picture.shape
    size = (-(-width // SHRINK), -(-height // SHRINK))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def resized(picture: Float32, size: tuple[int, int], how: int = cv2.INTER_LINEAR) -> Float32:
    """To a width and height."""
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.float32)


def blurred(picture: Float32, window_px: int) -> Float32:
    """The mean over a square around each pixel."""
    return np.asarray(cv2.blur(picture, (window_px, window_px)), np.float32)
