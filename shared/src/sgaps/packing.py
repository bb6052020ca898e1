"""Arrays as they travel on the streams and lie beside them: raw little-endian bytes.

A consumer reads floats with `np.frombuffer`, and copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import MessageError
from sgaps.sampling.footprints import IS_FOOTPRINT, UV_STEPS, VALUE_STEPS, uv_steps

Float32 = NDArray[np.float32]

_UV_BYTES = 4
PIXEL_BYTES = _UV_BYTES + 1
_UV, _VALUE = np.float32(UV_STEPS), np.float32(VALUE_STEPS)


def pack_floats(array: NDArray[np.floating]) -> bytes:
    """Serialise an array as little-endian float32, C order."""
    return np.ascontiguousarray(array, dtype="<f4").tobytes()


def unpack_floats(data: bytes, *shape: int) -> Float32:
    """Read what `pack_floats` wrote; one entry of `shape` may be -1. Raises MessageError."""
    try:
        return np.frombuffer(data, dtype="<f4").reshape(shape)
    except (ValueError, OverflowError) as error:
        raise MessageError(f"{len(data)} bytes are no float32 array of shape {shape}") from error


def pack_pixels(pixels: NDArray[np.floating]) -> bytes:
    """(N, 3 or more): u, v, value in 0..1 → all u, v as uint16, then all values as uint8.

    What a client sends in binary is not rounded by it, for it comes in these steps.
    """
    values = np.asarray(np.rint(pixels[:, 2] * VALUE_STEPS), np.uint8)
    return uv_steps(pixels).tobytes() + values.tobytes()


def unpack_pixels(data: bytes, footprints: bytes) -> Float32:
    """(N, 4): u, v, value, footprint: what `pack_pixels` and `pack_footprints` wrote.

    Raises MessageError.
    """
    values_at = _UV_BYTES * _pixel_count(data)
    view = memoryview(data)
    return _unpacked(view[:values_at], view[values_at:], footprints)


def unpack_together(packed: Sequence[tuple[bytes, bytes]]) -> list[Float32]:
    """The samples of many frames, each as by `unpack_pixels`, in half of the time.

    Raises MessageError if those of one are none.
    """
    counts = [_pixel_count(data) for data, _ in packed]
    sides = [sides or b"\1" * count for (_, sides), count in zip(packed, counts, strict=True)]
    if list(map(len, sides)) != counts:
        raise MessageError("as many footprints as samples, or none, belong to each frame")
    uv = [data[: _UV_BYTES * n] for (data, _), n in zip(packed, counts, strict=True)]
    values = [data[_UV_BYTES * n :] for (data, _), n in zip(packed, counts, strict=True)]
    samples = _unpacked(b"".join(uv), b"".join(values), b"".join(sides))
    return [samples[start:end] for start, end in pairwise(accumulate(counts, initial=0))]


def pack_footprints(footprints: NDArray[np.floating]) -> bytes:
    """One byte for each side in pixels; nothing where all are points."""
    sides = footprints.astype(np.uint8).tobytes()
    return b"" if sides.count(1) == len(sides) else sides


def unpack_coords(data: bytes, footprints: bytes) -> Float32:
    """(N, 3): u, v, footprint: float32 (N, 2), and what `pack_footprints` wrote.

    Raises MessageError.
    """
    uv = unpack_floats(data, -1, 2)
    coords = np.empty((len(uv), 3), np.float32)
    coords[:, :2], coords[:, 2] = uv, _unpacked_footprints(footprints, len(uv))
    return coords


def _unpacked(uv: bytes | memoryview, values: bytes | memoryview, footprints: bytes) -> Float32:
    """(N, 4). Raises MessageError."""
    samples = np.empty((len(values), 4), np.float32)
    np.divide(np.frombuffer(uv, "<u2").reshape(-1, 2), _UV, out=samples[:, :2])
    np.divide(np.frombuffer(values, np.uint8), _VALUE, out=samples[:, 2])
    samples[:, 3] = _unpacked_footprints(footprints, len(values))
    return samples


def _pixel_count(data: bytes) -> int:
    count, rest = divmod(len(data), PIXEL_BYTES)
    if rest:
        raise MessageError(f"{len(data)} bytes are no pixels")
    return count


def _unpacked_footprints(data: bytes, count: int) -> NDArray[np.uint8] | int:
    """(count,), or 1 where all are points. Raises MessageError."""
    if not data:
        return 1
    footprints = np.frombuffer(data, np.uint8)
    if len(footprints) != count or not IS_FOOTPRINT[footprints].all():
        raise MessageError(f"no footprints of {count} samples in {len(data)} bytes")
    return footprints
