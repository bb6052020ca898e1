"""Keyframes of very many pieces are refused before Pillow walks over them, which takes long."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from gateway.pictures import MAX_PIECES, check_picture
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.messages import Resolution

SIZE = Resolution(width=32, height=24)
LARGEST_BYTES = 4_190_000
"""What a message of `server.max_message_bytes` may hold."""
EMPTY_CHUNK = bytes(4) + b"anCi" + zlib.crc32(b"anCi").to_bytes(4)
COMMENT, APP9 = b"\xff\xfe\x00\x02", b"\xff\xe9\x00\x02"
TOO_SHORT = b"\xff\xfe\x00\x00"
"""Less than the two bytes that its size takes."""
FILL, NOISE, RESTART = b"\xff", b"\x00", b"\xff\xd0"
EXTENSION = b"\xff\xc8"
"""Of a content of its own in the standard, of none to Pillow."""


def picture(encoding: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (SIZE.height, SIZE.width), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, encoding)
    return encoded.getvalue()


def png(inserted: bytes) -> bytes:
    """With something behind its header."""
    whole = picture("png")
    return whole[:33] + inserted + whole[33:]


def jpeg(inserted: bytes) -> bytes:
    """With something before its first segment."""
    whole = picture("jpeg")
    return whole[:2] + inserted + whole[2:]


def refusal(data: bytes, encoding: str) -> str:
    """Without Pillow, which takes a second for such data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(Image, "open")
        with pytest.raises(ProtocolError) as caught:
            check_picture(data, encoding, SIZE)
    assert caught.value.code is ErrorCode.BAD_KEYFRAME
    return str(caught.value)


@pytest.mark.parametrize(
    "piece",
    [COMMENT, APP9, TOO_SHORT, FILL, RESTART, EXTENSION + COMMENT, EXTENSION + b"\xff\xff" + FILL],
)
def test_a_jpeg_of_too_many_markers_is_refused_before_it_is_decoded(piece: bytes) -> None:
    data = jpeg(LARGEST_BYTES // len(piece) * piece)
    assert f"more than {MAX_PIECES} markers" in refusal(data, "jpeg")


def test_bytes_between_the_markers_of_a_jpeg_are_counted() -> None:
    data = jpeg(COMMENT + MAX_PIECES * NOISE)
    assert f"more than {MAX_PIECES} markers" in refusal(data, "jpeg")


def test_a_png_of_too_many_chunks_is_refused_before_it_is_decoded() -> None:
    data = png(LARGEST_BYTES // len(EMPTY_CHUNK) * EMPTY_CHUNK)
    assert f"more than {MAX_PIECES} chunks" in refusal(data, "png")


def test_a_png_may_have_many_chunks_and_a_jpeg_many_segments() -> None:
    check_picture(png((MAX_PIECES - 3) * EMPTY_CHUNK), "png", SIZE)
    check_picture(jpeg((MAX_PIECES - 20) * COMMENT), "jpeg", SIZE)


def test_what_follows_the_end_or_the_first_scan_is_not_counted() -> None:
    check_picture(picture("png") + MAX_PIECES * EMPTY_CHUNK, "png", SIZE)
    check_picture(picture("jpeg") + MAX_PIECES * COMMENT, "jpeg", SIZE)


def test_who_is_refused_is_told_nothing_of_our_memory() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_picture(picture("png"), "jpeg", SIZE)
    assert "0x" not in str(caught.value)
    with pytest.raises(ProtocolError, match="this is no jpeg"):
        check_picture(b"\xff\xd8\xff\xd9", "jpeg", SIZE)
