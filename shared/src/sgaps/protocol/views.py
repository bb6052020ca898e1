"""The messages of `/ws/view/{session_id}`: what a page shows of a session. Knows no sockets.

A viewer says `view_start` once. It hears `view_status` every second, and for each picture a `view`,
which is binary: a header in JSON, then pictures and samples as bytes. docs/protocol.md has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.binary_codec import MAGIC, VERSION
from sgaps.protocol.content import PictureEncoding
from sgaps.protocol.messages import FrameId, FromClient, FromServer, Identifier, ShortText, Side
from sgaps.sampling.footprints import UV_STEPS, VALUE_STEPS, Samples

VIEW = 4
"""The kind of the binary message."""
Count = Annotated[int, Field(ge=0)]
Millis = Annotated[float, Field(ge=0)]

_HEAD = struct.Struct("<2sBBI")
"""Magic, version, kind, bytes of the header."""
_SAMPLES = np.dtype([("u", "<u2"), ("v", "<u2"), ("value", "u1"), ("level", "u1")])
"""`level` is log2 of the footprint's side in pixels."""


class ViewStart(FromClient):
    type: Literal["view_start"] = "view_start"
    auth_token: Annotated[str, Field(max_length=1024)] | None = None


class Counters(FromServer):
    """Of a session, on this gateway."""

    frames_received: Count
    frames_answered: Count
    frames_dropped: Count
    """Received, older than the newest answer, and never answered; where frame ids have no gaps."""
    messages_refused: Count
    bytes_up: Count
    bytes_down: Count


class ViewStatus(FromServer):
    """How things are while no picture comes, too."""

    type: Literal["view_status"] = "view_status"
    server_time: float
    connected: bool
    """Whether the game is there."""
    last_frame_id: int
    last_answered_frame_id: int
    counters: Counters
    missing: dict[str, str]
    """What keeps frames from being answered and recorded, each with what is wrong."""


class StagesMs(FromServer):
    """Where the time of a frame went, by the clock of the servers."""

    queue: Millis
    """From the gateway to the start of the reconstruction."""
    inference: Millis
    answer: Millis | None
    """From there to the coordinates at the client's socket; unknown while they are on the way."""


class ImportanceShown(FromServer):
    """uint8 (height, width), 255 = most important."""

    frame_id: FrameId
    """The frame it was computed from: another one where its own answer is not there in time."""
    width: Side
    height: Side


class Parts(FromServer):
    """Bytes of each part, in the order they have in the message; 0 = it is not there."""

    reconstruction: Count
    """PNG, gray."""
    samples: Count
    importance: Count
    true_frame: Count


class ViewHeader(FromServer):
    session_id: Identifier
    frame_id: FrameId
    model_version: ShortText
    width: Side
    height: Side
    predicted_psnr: float | None
    measured_psnr: float | None
    """Of this very frame, in dB, at most 100; null without a true frame."""
    sample_error: float | None
    """How far the samples are from the true frame at their places: the mean, in 0..1; null without
    either. A tenth and more is a client that takes v from the bottom, or another white or gray."""
    received_at: float
    """Unix time of the gateway."""
    stages_ms: StagesMs
    counters: Counters
    state: list[float | None]
    """null where a value is missing."""
    importance: ImportanceShown | None
    true_frame: PictureEncoding | None
    parts: Parts


@dataclass(frozen=True, kw_only=True)
class View:
    """One frame for people to look at."""

    header: ViewHeader
    reconstruction: bytes
    samples: bytes
    importance: bytes
    true_frame: bytes


def encode_view(view: View) -> bytes:
    """The binary message."""
    header = view.header.model_dump_json().encode()
    head = _HEAD.pack(MAGIC, VERSION, VIEW, len(header))
    parts = (view.reconstruction, view.samples, view.importance, view.true_frame)
    return b"".join([head, header, *parts])


def decode_view(raw: bytes) -> View:
    """Read what `encode_view` wrote. Raises ProtocolError."""
    if len(raw) < _HEAD.size:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"{len(raw)} bytes are no view")
    magic, version, kind, size = _HEAD.unpack_from(raw)
    if (magic, version, kind) != (MAGIC, VERSION, VIEW):
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "this is no view")
    try:
        header = ViewHeader.model_validate_json(raw[_HEAD.size : _HEAD.size + size])
    except ValidationError as error:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"header of a view: {error}") from error
    return View(header=header, **_parts(header.parts, raw[_HEAD.size + size :]))


def _parts(sizes: Parts, data: bytes) -> dict[str, bytes]:
    parts, at = {}, 0
    for name, size in sizes:
        parts[name] = data[at : at + size]
        at += size
    if at != len(data):
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"parts of {at} bytes, and {len(data)} came")
    return parts


def shown_state(state: NDArray[np.float32], missing_value: float) -> list[float | None]:
    """A state vector (D,) for people: six decimals, None where a value is missing."""
    is_missing = state == np.float32(missing_value)
    values = np.round(state.astype(np.float64), 6).tolist()
    return [None if gone else value for value, gone in zip(values, is_missing, strict=True)]


def pack_samples(samples: Samples) -> bytes:
    """(N, 4) → N times six bytes."""
    packed = np.empty(len(samples), _SAMPLES)
    packed["u"], packed["v"] = np.round(samples[:, :2].T * UV_STEPS)
    packed["value"] = np.round(samples[:, 2] * VALUE_STEPS)
    packed["level"] = np.log2(samples[:, 3])
    return packed.tobytes()


def unpack_samples(data: bytes) -> Samples:
    """Read what `pack_samples` wrote: (N, 4). Raises ProtocolError."""
    if len(data) % _SAMPLES.itemsize:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"{len(data)} bytes are no samples")
    packed = np.frombuffer(data, _SAMPLES)
    columns = [packed["u"] / UV_STEPS, packed["v"] / UV_STEPS, packed["value"] / VALUE_STEPS]
    return np.column_stack([*columns, 2.0 ** packed["level"]]).astype(np.float32)
