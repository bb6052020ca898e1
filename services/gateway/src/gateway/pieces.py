"""How many pieces a picture is cut into, told before a decoder walks over them. No I/O.

Pillow's walk is Python: a million empty ones in 4 MiB would stop all sessions for a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from PIL.JpegImagePlugin import MARKER

MAX_PIECES = 2048
"""A PNG of 4 MiB has 512 chunks as libpng cuts it, a JPEG about ten segments."""
PNG_SIGNATURE_BYTES = 8
PNG_END = b"IEND"
JPEG_SIGNATURE_BYTES = 2
JPEG_START_OF_SCAN = b"\xff\xda"


def check_pieces(picture: bytes, encoding: str) -> None:
    """Raises ValueError above `MAX_PIECES`."""
    pieces = _chunks_of_png(picture) if encoding == "png" else _steps_of_jpeg(picture)
    if any(islice(pieces, MAX_PIECES, None)):
        raise ValueError(f"it has more than {MAX_PIECES} chunks or markers")


def _chunks_of_png(png: bytes) -> Iterator[int]:
    """Where each begins."""
    start, kind = PNG_SIGNATURE_BYTES, b""
    while start < len(png) and kind != PNG_END:
        yield start
        kind = png[start + 4 : start + 8]
        start += 12 + int.from_bytes(png[start : start + 4])


def _steps_of_jpeg(jpeg: bytes) -> Iterator[int]:
    """Where each marker before the first scan begins, and each byte that is of none, as Pillow
    goes: by its table, or what is one segment here were many there."""
    start = JPEG_SIGNATURE_BYTES
    while start < len(jpeg) and (marker := jpeg[start : start + 2]) != JPEG_START_OF_SCAN:
        yield start
        _, _, has_content = MARKER.get(int.from_bytes(marker), ("", "", None))
        size_bytes = int.from_bytes(jpeg[start + 2 : start + 4])
        start += 2 + max(2, size_bytes) if has_content else 1
