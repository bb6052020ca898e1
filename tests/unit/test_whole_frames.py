"""Whole frames: as the client's picture is, whatever its tags say."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from sgaps import whole_frames

ORIENTATION = 0x0112


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tag_of_a_camera_turns_nothing(orientation: int) -> None:
    """The gateway looks at the size of the picture as it is, and the samples lie in that."""
    picture = np.zeros((24, 32), np.uint8)
    picture[:12, :16] = 200
    tags, file = Image.Exif(), io.BytesIO()
    tags[ORIENTATION] = orientation
    Image.fromarray(picture).save(file, "JPEG", exif=tags, quality=100)
    seen = whole_frames.picture_of(file.getvalue(), 32, 24)
    assert seen is not None
    np.testing.assert_allclose(seen.astype(int), picture, atol=8)
    assert whole_frames.picture_of(file.getvalue(), 24, 32) is None


def test_what_cannot_be_decoded_is_none() -> None:
    """A damaged header claims more pixels than OpenCV decodes, which raises there."""
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((240, 320), np.uint8))[1].tobytes())
    size_at = jpeg.index(b"\xff\xc0") + 5
    jpeg[size_at], jpeg[size_at + 2] = 0xF0, 0xF1
    for damaged in (b"", b"no picture", bytes(jpeg)):
        assert whole_frames.picture_of(damaged, 320, 240) is None
