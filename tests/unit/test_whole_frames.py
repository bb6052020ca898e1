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


@pytest.mark.parametrize("form", [".png", ".jpg"])
def test_a_picture_of_another_size_is_not_decoded(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte may be a gigabyte of pixels."""
    data = cv2.imencode(form, np.zeros((24, 32), np.uint8))[1].tobytes()
    assert whole_frames.size_of(data) == (32, 24)
    assert whole_frames.picture_of(data, 32, 24) is not None
    monkeypatch.delattr(cv2, "imdecode")
    assert whole_frames.picture_of(data, 24, 32) is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("between", [b"", b"\xff\xff\xff", b"\0\1garbage\xff\0", b"\xff\xd0"])
def test_the_size_of_a_jpeg_is_found_where_its_decoder_finds_it(
    between: bytes, *, progressive: bool
) -> None:
    tags, file = Image.Exif(), io.BytesIO()
    tags[ORIENTATION] = 1
    picture = Image.fromarray(np.zeros((24, 32), np.uint8))
    picture.save(file, "JPEG", exif=tags, progressive=progressive, comment=b"\xff\xc0\0\x0b" * 9)
    whole = file.getvalue()
    end_of_first = 4 + int.from_bytes(whole[4:6])
    data = whole[:end_of_first] + between + whole[end_of_first:]
    is_decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) is not None
    assert (whole_frames.picture_of(data, 32, 24) is not None) == is_decoded


def test_what_cannot_be_decoded_is_none() -> None:
    """A damaged header claims more pixels than OpenCV decodes, which raises there."""
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((240, 320), np.uint8))[1].tobytes())
    size_at = jpeg.index(b"\xff\xc0") + 5
    jpeg[size_at], jpeg[size_at + 2] = 0xF0, 0xF1
    bitmap = cv2.imencode(".bmp", np.zeros((240, 320), np.uint8))[1].tobytes()
    begun = b"\xff\xd8"
    filled = begun + b"\xff" * 2**22 + b"\0"  # for ever, if each is tried with all
    damaged_ones = (b"", b"no picture", bytes(jpeg), bitmap, begun, begun + b"\xff\xc0\0", filled)
    for damaged in damaged_ones:
        assert whole_frames.picture_of(damaged, 320, 240) is None


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((4, 4), np.uint8)
    off = np.full((4, 4), 51, np.uint8)
    assert whole_frames.picture_psnr_db(off, truth) == pytest.approx(20 * np.log10(5))
    assert whole_frames.picture_psnr_db(truth, truth) == whole_frames.MAX_PSNR_DB


def test_no_psnr_is_higher_than_that_of_equal_pictures() -> None:
    truth = np.zeros((1000, 1000), np.uint8)
    off = truth.copy()
    off[0, 0] = 1  # 108 dB
    assert whole_frames.picture_psnr_db(off, truth) == whole_frames.MAX_PSNR_DB
