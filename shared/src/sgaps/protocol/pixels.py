"""The pixels of a JSON frame, in any of their three forms: read and checked in C."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import simdjson
from msgspec import Meta

from sgaps.protocol.bounds import MAX_SAMPLES
from sgaps.sampling.footprints import Samples, are_footprints

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

_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b"[],"))
_POINT, _SQUARE = b"[,,],", b"[,,,],"
"""What is left of a row without its numbers, and of the comma behind it."""
DECIMALS = 6
"""A thousandth of a pixel at 1000 pixels; the other digits of a float32 only cost bytes."""


def samples_of(pixels: msgspec.Raw) -> Samples:
    """The pixels, which all have the form of the first one → float32 (N, 4).

    Raises msgspec.DecodeError, which names the first that is wrong.
    """
    raw = bytes(pixels)
    samples = samples_of_rows(raw)
    return _samples_one_by_one(raw) if samples is None else samples


def rows_of(samples: Samples) -> list[tuple[float, ...]]:
    """float32 (N, 4) → the short form: u, v, value, and the side unless all are points."""
    u, v, value = np.round(samples[:, :3].T.astype(np.float64), DECIMALS).tolist()
    side_px = samples[:, 3].astype(int).tolist()
    if set(side_px) <= {1}:
        return list(zip(u, v, value, strict=True))
    return list(zip(u, v, value, side_px, strict=True))


def samples_of_rows(raw: bytes) -> Samples | None:
    """Rows of numbers as they should be → float32 (N, 4); None: to be looked at one by one.

    simdjson makes no Python object of any number, which took most of the time.
    """
    structure = raw.translate(None, _ALL_BUT_STRUCTURE)
    count = structure.count(b"]") - 1
    row = _SQUARE if structure[1:].startswith(_SQUARE[:-1]) else _POINT
    if not 0 < count <= MAX_SAMPLES or structure != b"[" + (row * count)[:-1] + b"]":
        return None
    if raw.startswith(BOM_UTF8):  # which simdjson passes over, though this is no file's beginning
        return None
    try:
        rows = simdjson.Parser().parse(raw)
        if not isinstance(rows, simdjson.Array):  # a text, or an object, of the same structure
            return None
        numbers = np.frombuffer(rows.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):  # no JSON, no number, one of over 64 bits
        return None
    numbers = numbers.reshape(count, -1)
    if numbers.min() < 0 or numbers[:, :3].max() > 1 or not are_footprints(numbers[:, 3:]):
        return None
    samples = np.ones((count, len(PixelObject.__struct_fields__)), np.float32)
    samples[:, : numbers.shape[1]] = numbers
    return samples


def _samples_one_by_one(raw: bytes) -> Samples:
    """Any of the three forms. Raises msgspec.DecodeError."""
    first, _, _ = raw.partition(b"]")
    rows: Sequence[tuple[float, ...]]
    if b"{" in first:
        rows = [(p.u, p.v, p.value, p.footprint) for p in _objects.decode(raw)]
    elif first.count(b",") == len(PixelObject.__struct_fields__) - 1:
        rows = _squares.decode(raw)
    else:
        rows = _points.decode(raw)
    samples = np.ones((len(rows), len(PixelObject.__struct_fields__)), np.float32)
    if rows:
        samples[:, : len(rows[0])] = rows
    return samples


def json_schema() -> dict[str, Any]:
    """Of the three forms, for those who write a client."""
    _, parts = msgspec.json.schema_components([_OBJECTS])
    objects = {"type": "array", "items": parts[PixelObject.__name__], "maxItems": MAX_SAMPLES}
    return {"anyOf": [msgspec.json.schema(_POINTS), msgspec.json.schema(_SQUARES), objects]}
