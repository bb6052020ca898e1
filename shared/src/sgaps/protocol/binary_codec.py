"""The binary form of `frame_data`, `keyframe` and `uv_coordinates`; docs/protocol.md has the bytes.

All numbers are little-endian, all lengths exact. What comes from outside is checked here once.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.bounds import MAX_SIDE_PX, MAX_STATE_DIM
from sgaps.protocol.content import (
    CoordinateSet,
    Importance,
    PictureEncoding,
    SampledFrame,
    WholeFrame,
)
from sgaps.protocol.messages import MAX_FRAME_ID, MAX_SET_ID, Resolution
from sgaps.sampling.footprints import MAX_FOOTPRINT_PX, UV_STEPS, VALUE_STEPS, Coords, uv_steps

SUBPROTOCOL = "sgaps.v1.binary"
MAGIC, VERSION = b"SG", 1
FRAME_DATA, KEYFRAME, UV_COORDINATES = 1, 2, 3
ENCODINGS: dict[int, PictureEncoding] = {1: "png", 2: "jpeg"}
MAX_LEVEL = MAX_FOOTPRINT_PX.bit_length() - 1
HAS_FOOTPRINTS, HAS_PSNR = 1, 2
ZEROS = bytes(3)

_HEAD = struct.Struct("<2sBB")
"""Magic, version, kind."""
_FRAME = struct.Struct("<QQdHHHH")
"""Frame id, set id, timestamp, width, height, state values, samples."""
_KEYFRAME = struct.Struct("<QB3sI")
"""Frame id, encoding, zeros, bytes of the picture."""
_COORDINATES = struct.Struct("<qQfHHHBB")
"""Frame id, set id, predicted PSNR, samples, width and height of the importance map, flags, bytes
of the model version."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ValuesOfFrame:
    """`frame_data` without its coordinates: the server knows the set."""

    frame_id: int
    coordinate_set_id: int
    values: NDArray[np.uint8]
    """(N,), 255 = white."""
    state: NDArray[np.float32]
    """(S,)."""
    resolution: Resolution
    timestamp: float

    def check_count(self, count: int) -> None:
        """Raises ProtocolError unless it has as many values as its set has coordinates."""
        if count != len(self.values):
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"{len(self.values)} values; set {self.coordinate_set_id} has {count}",
            )

    def at(self, coords: Coords) -> SampledFrame:
        """The whole message. Raises ProtocolError where the set has another length."""
        self.check_count(len(coords))
        samples = np.empty((len(coords), 4), np.float32)
        samples[:, :2], samples[:, 3] = coords[:, :2], coords[:, 2]
        np.divide(self.values, VALUE_STEPS, out=samples[:, 2], dtype=np.float32)
        return SampledFrame(
            frame_id=self.frame_id,
            coordinate_set_id=self.coordinate_set_id,
            samples=samples,
            state=self.state,
            resolution=self.resolution,
            timestamp=self.timestamp,
        )


FromClient: TypeAlias = ValuesOfFrame | WholeFrame


def as_sent(coords: Coords) -> Coords:
    """(N, 3) as the other side reads it."""
    quantised = uv_steps(coords).astype(np.float32) / UV_STEPS
    return np.column_stack([quantised, coords[:, 2]])


def encode_frame(frame: SampledFrame) -> bytes:
    """`frame_data`: values only, a byte each."""
    values = np.round(frame.samples[:, 2] * VALUE_STEPS).astype(np.uint8)
    return b"".join(
        [
            _HEAD.pack(MAGIC, VERSION, FRAME_DATA),
            _FRAME.pack(
                frame.frame_id,
                frame.coordinate_set_id,
                frame.timestamp,
                frame.resolution.width,
                frame.resolution.height,
                len(frame.state),
                len(values),
            ),
            frame.state.astype("<f4").tobytes(),
            values.tobytes(),
        ]
    )


def encode_keyframe(keyframe: WholeFrame) -> bytes:
    """`keyframe`."""
    (encoding,) = (number for number, name in ENCODINGS.items() if name == keyframe.encoding)
    head = _HEAD.pack(MAGIC, VERSION, KEYFRAME)
    return (
        head
        + _KEYFRAME.pack(keyframe.frame_id, encoding, ZEROS, len(keyframe.data))
        + keyframe.data
    )


def encode_coordinates(chosen: CoordinateSet) -> bytes:
    """`uv_coordinates`."""
    version = chosen.model_version.encode()
    importance = chosen.importance or Importance(width=0, height=0, data=b"")
    has_psnr = chosen.predicted_psnr_db is not None
    levels = np.log2(chosen.coords[:, 2]).astype(np.uint8) if chosen.footprints else np.empty(0)
    return b"".join(
        [
            _HEAD.pack(MAGIC, VERSION, UV_COORDINATES),
            _COORDINATES.pack(
                chosen.frame_id,
                chosen.coordinate_set_id,
                chosen.predicted_psnr_db or 0.0,
                len(chosen.coords),
                importance.width,
                importance.height,
                HAS_FOOTPRINTS * chosen.footprints | HAS_PSNR * has_psnr,
                len(version),
            ),
            uv_steps(chosen.coords).tobytes(),
            levels.astype(np.uint8).tobytes(),
            importance.data,
            version,
        ]
    )


def decode_client_message(data: bytes) -> FromClient:
    """Read what a client sent. Raises ProtocolError."""
    kind, body = _opened(data)
    if kind == FRAME_DATA:
        return _frame(body)
    if kind == KEYFRAME:
        return _keyframe(body)
    raise ProtocolError(ErrorCode.UNKNOWN_TYPE, f"a client sends no message of kind {kind}")


def decode_server_message(data: bytes) -> CoordinateSet:
    """Read what the server sent. Raises ProtocolError."""
    kind, body = _opened(data)
    if kind != UV_COORDINATES:
        raise ProtocolError(ErrorCode.UNKNOWN_TYPE, f"a server sends no message of kind {kind}")
    return _coordinates(body)


def _opened(data: bytes) -> tuple[int, memoryview]:
    if len(data) < _HEAD.size:
        raise _bad(f"{len(data)} bytes are no message")
    magic, version, kind = _HEAD.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise _bad(f"begins with {magic!r} and version {version}, not {MAGIC!r} and {VERSION}")
    return kind, memoryview(data)[_HEAD.size :]


def _frame(body: memoryview) -> ValuesOfFrame:
    fields, rest = _split(body, _FRAME)
    frame_id, set_id, timestamp, width, height, states, count = fields
    _check(frame_id <= MAX_FRAME_ID, "frame id is too large")
    _check(set_id <= MAX_SET_ID, "coordinate set id is too large")
    _check(math.isfinite(timestamp), "timestamp is not finite")
    _check(1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX, "no such resolution")
    _check(states <= MAX_STATE_DIM, "too many state values")
    _check(len(rest) == 4 * states + count, f"{len(rest)} bytes of arrays")
    state = np.frombuffer(rest, "<f4", states).astype(np.float32)
    _check(bool(np.isfinite(state).all()), "a state value is not finite")
    return ValuesOfFrame(
        frame_id=frame_id,
        coordinate_set_id=set_id,
        values=np.frombuffer(rest, np.uint8, count, offset=4 * states),
        state=state,
        resolution=Resolution(width=width, height=height),
        timestamp=timestamp,
    )


def _keyframe(body: memoryview) -> WholeFrame:
    (frame_id, encoding, zeros, length), data = _split(body, _KEYFRAME)
    _check(frame_id <= MAX_FRAME_ID, "frame id is too large")
    _check(encoding in ENCODINGS, f"no encoding {encoding}")
    _check(zeros == ZEROS, "something after the encoding")
    _check(len(data) == length, f"{len(data)} bytes of picture, {length} were announced")
    return WholeFrame(frame_id=frame_id, encoding=ENCODINGS[encoding], data=bytes(data))


def _coordinates(body: memoryview) -> CoordinateSet:
    fields, rest = _split(body, _COORDINATES)
    frame_id, set_id, psnr, count, width, height, flags, version_length = fields
    levels_length = count if flags & HAS_FOOTPRINTS else 0
    uv, levels, importance, version = _cut(
        rest, [4 * count, levels_length, width * height, version_length]
    )
    level = np.frombuffer(levels, np.uint8) if levels_length else np.zeros(count, np.uint8)
    _check(not flags & ~(HAS_FOOTPRINTS | HAS_PSNR), f"unknown flags {flags}")
    _check(bool((level <= MAX_LEVEL).all()), "no such footprint")
    _check(-1 <= frame_id <= MAX_FRAME_ID, "no such frame id")
    _check(set_id <= MAX_SET_ID, "coordinate set id is too large")
    _check(math.isfinite(psnr), "predicted PSNR is not finite")
    no_psnr = psnr == 0 and math.copysign(1, psnr) > 0
    _check(bool(flags & HAS_PSNR) or no_psnr, "a predicted PSNR without its flag")
    _check((width > 0) == (height > 0), "an importance map without one of its sides")
    try:
        model_version = bytes(version).decode()
    except UnicodeDecodeError as error:
        raise _bad("model version is no text") from error
    where = np.frombuffer(uv, "<u2").reshape(count, 2).astype(np.float32) / UV_STEPS
    return CoordinateSet(
        frame_id=frame_id,
        coordinate_set_id=set_id,
        coords=np.column_stack([where, np.exp2(level.astype(np.float32))]),
        footprints=bool(flags & HAS_FOOTPRINTS),
        importance=Importance(width=width, height=height, data=bytes(importance))
        if importance
        else None,
        model_version=model_version,
        predicted_psnr_db=psnr if flags & HAS_PSNR else None,
    )


def _split(body: memoryview, head: struct.Struct) -> tuple[tuple[Any, ...], memoryview]:
    if len(body) < head.size:
        raise _bad(f"{len(body)} bytes after the head, at least {head.size} are needed")
    return head.unpack_from(body), body[head.size :]


def _cut(data: memoryview, lengths: list[int]) -> list[memoryview]:
    _check(len(data) == sum(lengths), f"{len(data)} bytes of arrays, not {sum(lengths)}")
    ends = np.cumsum(lengths).tolist()
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _bad(otherwise)


def _bad(reason: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_MESSAGE, f"binary message: {reason}")
