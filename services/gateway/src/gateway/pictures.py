"""Whether what came as a whole frame is one. No I/O.

Its pieces are looked at before Pillow is let loose on them: that walks in Python, and a million
empty ones in 4 MiB would stop all sessions for a second.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import MARKER

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.messages import Resolution

MAX_PIECES = 2048
"""A PNG of 4 MiB has 512 chunks as libpng cuts it, a JPEG about ten segments."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
PNG_CONTENT_BYTES: dict[bytes, Sequence[int]] = {
    b"IHDR": (13,),
    b"PLTE": range(3, 769, 3),
    b"bKGD": (1, 2, 6),
    b"acTL": (),
}
"""What OpenCV insists on; `acTL` is an animation, which no whole frame is."""
PNG_PALETTE = 3
JPEG_SIGNATURE_BYTES = 2
JPEG_START_OF_SCAN = b"\xff\xda"
MAX_JPEG_SCANS = 64
"""A progressive JPEG has about ten. Each scan of 15 bytes can visit every pixel again."""

# What Pillow raises on hostile bytes, by no clear rule: SyntaxError is its word for broken PNG
# chunks, and some of those that end too early are a LookupError or a struct.error.
_BROKEN = (
    Image.DecompressionBombError,
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    struct.error,
)


def check_picture(data: bytes, encoding: str, resolution: Resolution) -> None:
    """Decode it once, here: what follows trusts it. The header is checked before the pixels.

    Raises ProtocolError.
    """
    try:
        if encoding == "png":
            _check_png(memoryview(data))
        else:
            _check_jpeg(data)
        with Image.open(io.BytesIO(data), formats=[encoding.upper()]) as picture:
            if picture.size != (resolution.width, resolution.height):
                raise ProtocolError(
                    ErrorCode.BAD_KEYFRAME,
                    f"picture is {picture.size[0]}x{picture.size[1]}, the session "
                    f"{resolution.width}x{resolution.height}",
                )
            picture.load()
    except UnidentifiedImageError as error:  # whose text names an address in our memory
        raise ProtocolError(ErrorCode.BAD_KEYFRAME, f"this is no {encoding}") from error
    except _BROKEN as error:
        raise ProtocolError(ErrorCode.BAD_KEYFRAME, f"no {encoding}: {error}") from error


def _check_png(png: memoryview) -> None:
    """Also what Pillow lets pass and the decoders of the trainer do not. Raises ValueError."""
    if png[: len(PNG_SIGNATURE)] != PNG_SIGNATURE:
        raise ValueError("it does not begin like one")
    chunks = list(islice(_chunks(png), MAX_PIECES + 1))
    if len(chunks) > MAX_PIECES:
        raise ValueError(f"it has more than {MAX_PIECES} chunks")
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or kinds.count(b"IHDR") > 1:
        raise ValueError("its header comes late, or twice")
    if b"IDAT" not in kinds:
        raise ValueError("it has no pixels")
    *_, colour, compression, _, _ = chunks[0][1]
    if compression:
        raise ValueError(f"it is compressed by an unknown method {compression}")
    before_pixels = kinds[: kinds.index(b"IDAT")]
    if colour == PNG_PALETTE and not kinds.count(b"PLTE") == before_pixels.count(b"PLTE") == 1:
        raise ValueError("it needs one palette, before its pixels")


def _chunks(png: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content up to the end. Raises ValueError where one is not as it should be."""
    start = len(PNG_SIGNATURE)
    while start < len(png):
        body = start + 4
        checksum = body + 4 + int.from_bytes(png[start:body])
        if zlib.crc32(png[body:checksum]) != int.from_bytes(png[checksum : checksum + 4]):
            raise ValueError("a chunk is cut off, or not what its checksum says")
        kind, content = bytes(png[body : body + 4]), png[body + 4 : checksum]
        if not kind.isalpha() or (kind[:1].isupper() and kind not in PNG_CRITICAL):
            raise ValueError(f"it has a chunk {kind!r}, without which it cannot be read")
        if len(content) not in PNG_CONTENT_BYTES.get(kind, (len(content),)):
            raise ValueError(f"its chunk {kind!r} has {len(content)} bytes")
        yield kind, content
        if kind == b"IEND":
            return
        start = checksum + 4
    raise ValueError("its end is missing")


def _check_jpeg(jpeg: bytes) -> None:
    """Raises ValueError."""
    if any(islice(_steps(jpeg), MAX_PIECES, None)):
        raise ValueError(f"it has more than {MAX_PIECES} markers")
    if jpeg.count(JPEG_START_OF_SCAN) > MAX_JPEG_SCANS:
        raise ValueError(f"it has more than {MAX_JPEG_SCANS} scans")


def _steps(jpeg: bytes) -> Iterator[int]:
    """Where each marker before the first scan begins, and each byte that is of none, as Pillow
    goes: by its table, or what is one segment here were many there."""
    start = JPEG_SIGNATURE_BYTES
    while start < len(jpeg) and (marker := jpeg[start : start + 2]) != JPEG_START_OF_SCAN:
        yield start
        _, _, has_content = MARKER.get(int.from_bytes(marker), ("", "", None))
        size_bytes = int.from_bytes(jpeg[start + 2 : start + 4])
        start += 2 + max(2, size_bytes) if has_content else 1
