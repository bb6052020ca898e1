"""The pixels of a JSON frame, in any of their three forms: read and checked in C."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from sgaps.protocol.bounds import MAX_SAMPLES
from sgaps.sampling.footprints import Samples

_Unit = Annotated[float, Meta(ge=0, le=1)]
Footprint = Literal[1, 2, 4, 8, 16, 32, 64]
"""FOOTPRINTS_PX, which a type cannot be made of."""


class PixelObject(msgspec.Struct, forbid_unknown_fields=True):
    """The long form of a sample; `[u, v, value]` is the one we write."""

    u: _Unit
    v: _Unit
    value: _Unit
    footprint: Footprint = 1


_FEW = Meta(max_length=MAX_SAMPLES)
_POINTS: TypeAlias = Annotated[list[tuple[_Unit, _Unit, _Unit]], _FEW]
_SQUARES: TypeAlias = Annotated[list[tuple[_Unit, _Unit, _Unit, Footprint]], _FEW]
_OBJECTS: TypeAlias = Annotated[list[PixelObject], _FEW]
_points = msgspec.json.Decoder(_POINTS)
_squares = msgspec.json.Decoder(_SQUARES)
_objects = msgspec.json.Decoder(_OBJECTS)

Rows: TypeAlias = list[tuple[float, float, float]] | list[tuple[float, float, float, Footprint]]
"""u, v, value of each pixel, and in squares the footprint."""


def rows_of(pixels: msgspec.Raw) -> Rows:
    """The pixels, which all have the form of the first one. Raises msgspec.DecodeError."""
    first, _, _ = bytes(pixels).partition(b"]")
    if b"{" in first:
        return [(p.u, p.v, p.value, p.footprint) for p in _objects.decode(pixels)]
    if first.count(b",") == len(PixelObject.__struct_fields__) - 1:
        return _squares.decode(pixels)
    return _points.decode(pixels)


_PACKED_NUMBERS = np.dtype([("kind", "u1"), ("number", ">f8")])
_PACKED_POINT = np.dtype([("kind", "u1"), ("of_point", _PACKED_NUMBERS, 3)])
_PACKED_SQUARE = np.dtype([*_PACKED_POINT.descr, ("footprint", "u1")])
"""A row as MessagePack has it: a float takes nine bytes, a footprint is small enough for one."""


def samples_of(rows: Rows) -> Samples:
    """Rows as they were read → float32 (N, 4). Raises ValueError where a u, v or value is an int.

    By way of MessagePack: numpy takes five times as long to look at each number.
    """
    samples = np.ones((len(rows), len(PixelObject.__struct_fields__)), np.float32)
    if rows:
        is_point = len(rows[0]) == samples.shape[1] - 1
        layout = _PACKED_POINT if is_point else _PACKED_SQUARE
        message = msgspec.msgpack.encode(rows)
        head_bytes = len(message) - len(rows) * layout.itemsize
        packed = np.frombuffer(message, layout, len(rows), offset=head_bytes)
        samples[:, :3] = packed["of_point"]["number"]
        if not is_point:
            samples[:, 3] = packed["footprint"]
    return samples


def json_schema() -> dict[str, Any]:
    """Of the three forms, for those who write a client."""
    _, parts = msgspec.json.schema_components([_OBJECTS])
    objects = {"type": "array", "items": parts[PixelObject.__name__], "maxItems": MAX_SAMPLES}
    return {"anyOf": [msgspec.json.schema(_POINTS), msgspec.json.schema(_SQUARES), objects]}
