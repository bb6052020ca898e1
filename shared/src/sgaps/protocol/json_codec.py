"""The JSON form of the protocol: bytes in, messages out. Knows no sockets."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
from pydantic import TypeAdapter, ValidationError

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.content import CoordinateSet, Importance, SampledFrame, WholeFrame
from sgaps.protocol.messages import (
    ClientMessage,
    FrameData,
    FromClient,
    FromServer,
    ImportanceMap,
    Keyframe,
    ServerMessage,
    UvCoordinates,
)
from sgaps.protocol.pixels import DECIMALS, samples_of, samples_of_rows
from sgaps.protocol.views import ViewStart

SUBPROTOCOL = "sgaps.v1.json"

MAX_FIELDS = 64
"""Of one message; no message has half as many."""
MAX_OTHER_BYTES = 1 << 17
"""Of all fields that are neither pixels nor text: to build a million lists only to refuse them
would hold up everybody. 4,096 state values with all digits of a double fit."""
PIXELS_WITHIN_BYTES = 4096
"""Who sends more before them has them read as a whole; a keyframe of a megabyte is not looked
through for what it has not."""
MAX_REASON_CHARS = 300
"""A reason names the wrong field, which may be a megabyte of the client's own."""

_PIXELS = "pixels"
_PIXELS_QUOTED, _PIXELS_NAMED, _ROWS_END = b'"pixels"', b'"pixels":', b"]]"

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_client_messages: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)
_server_messages: TypeAdapter[ServerMessage] = TypeAdapter(ServerMessage)
_viewer_messages: TypeAdapter[ViewStart] = TypeAdapter(ViewStart)

T = TypeVar("T")
M = TypeVar("M")

_CODES = {
    "json_invalid": ErrorCode.BAD_JSON,
    "string_unicode": ErrorCode.BAD_JSON,
    "union_tag_invalid": ErrorCode.UNKNOWN_TYPE,
    "union_tag_not_found": ErrorCode.UNKNOWN_TYPE,
}


def encode(message: FromClient | FromServer) -> str:
    """Write one message; absent optional fields of a client stay absent."""
    return message.model_dump_json(exclude_none=isinstance(message, FromClient))


def decode_client_message(raw: str | bytes) -> ClientMessage:
    """Read what a client sent. Raises ProtocolError naming the first field that is wrong."""
    return _checked(_client_messages.validate_python, _fields(raw))


def _fields(raw: str | bytes) -> dict[str, Any]:
    """The fields of a message, its pixels checked already: pydantic takes four times as long."""
    try:
        fields = _fields_around_rows(raw.encode() if isinstance(raw, str) else raw)
        if fields is None:
            fields = _raw_fields.decode(raw)
        if len(fields) > MAX_FIELDS:
            raise _refusal(ErrorCode.BAD_MESSAGE, f"message: more than {MAX_FIELDS} fields")
        if _other_bytes(fields) > MAX_OTHER_BYTES:
            reason = f"message: more than {MAX_OTHER_BYTES} bytes that are neither pixels nor text"
            raise _refusal(ErrorCode.BAD_MESSAGE, reason)
        return {name: _field(name, value) for name, value in fields.items()}
    except msgspec.ValidationError as error:
        raise _refusal(ErrorCode.BAD_MESSAGE, f"message: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _refusal(ErrorCode.BAD_JSON, f"message: {error}{_hint(raw)}") from error


def _fields_around_rows(raw: bytes) -> dict[str, Any] | None:
    """The raw fields of a message whose pixels are rows as they should be; those are read already.

    Taken out first, they are passed once: a parser has to read what it skips. None: to be read as a
    whole, as is all that is to be refused, or could hide a second field of that name.
    """
    named = raw.find(_PIXELS_NAMED, 0, PIXELS_WITHIN_BYTES)
    if named < 0:
        return None
    begin, end = named + len(_PIXELS_NAMED), raw.rfind(_ROWS_END) + len(_ROWS_END)
    around = raw[:begin] + b"0" + raw[end:]
    if around.count(_PIXELS_QUOTED) > 1 or b"\\" in around:
        return None
    samples = samples_of_rows(raw[begin:end])
    if samples is None:
        return None
    try:
        fields = _raw_fields.decode(around)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return fields | {_PIXELS: samples} if _PIXELS in fields else None  # else an inner object's


def _other_bytes(fields: Mapping[str, Any]) -> int:
    views = (memoryview(value) for name, value in fields.items() if name != _PIXELS)
    return sum(len(view) for view in views if view[0] != ord('"'))


def _field(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON
    if name != _PIXELS:
        return msgspec.json.decode(value)
    try:
        return samples_of(value) if isinstance(value, msgspec.Raw) else value
    except msgspec.DecodeError as error:
        raise _refusal(ErrorCode.BAD_MESSAGE, f"pixels: {error}") from error


def _hint(raw: str | bytes) -> str:
    """Many a language writes what no JSON parser reads."""
    text = raw.encode(errors="replace") if isinstance(raw, str) else raw
    return "; JSON has neither NaN nor Infinity" if b"NaN" in text or b"Infinity" in text else ""


def decode_server_message(raw: str | bytes) -> ServerMessage:
    """Read what the server sent. Raises ProtocolError."""
    return _checked(_server_messages.validate_json, raw)


def decode_viewer_message(raw: str | bytes) -> ViewStart:
    """Read what a viewer sent. Raises ProtocolError."""
    start = _checked(_viewer_messages.validate_python, _fields(raw))
    if "type" not in start.model_fields_set:  # which a union would ask for, if there were another
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "type: Field required")
    return start


def _checked(validate: Callable[[T], M], given: T) -> M:
    try:
        return validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        code = _CODES.get(first["type"], ErrorCode.BAD_MESSAGE)
        raise _refusal(code, f"{where}: {first['msg']}") from error
    except UnicodeEncodeError as error:
        raise ProtocolError(ErrorCode.BAD_JSON, "lone surrogate in the text") from error


def _refusal(code: ErrorCode, reason: str) -> ProtocolError:
    return ProtocolError(code, reason[:MAX_REASON_CHARS])


def encode_frame(frame: SampledFrame) -> str:
    """`frame_data`."""
    return encode(
        FrameData(
            frame_id=frame.frame_id,
            pixels=frame.samples,
            state_vector=frame.state.tolist(),
            resolution=frame.resolution,
            timestamp=frame.timestamp,
            coordinate_set_id=frame.coordinate_set_id,
        )
    )


def encode_keyframe(keyframe: WholeFrame) -> str:
    """`keyframe`."""
    data = base64.b64encode(keyframe.data).decode()
    return encode(Keyframe(frame_id=keyframe.frame_id, encoding=keyframe.encoding, data=data))


def encode_coordinates(chosen: CoordinateSet) -> str:
    """`uv_coordinates`."""
    u, v = np.round(chosen.coords[:, :2].T.astype(np.float64), DECIMALS).tolist()
    side_px = chosen.coords[:, 2].astype(int).tolist()
    pairs, squares = list(zip(u, v, strict=True)), list(zip(u, v, side_px, strict=True))
    return encode(
        UvCoordinates(
            frame_id=chosen.frame_id,
            coords=squares if chosen.footprints else pairs,
            importance_map=_importance_map(chosen.importance) if chosen.importance else None,
            coordinate_set_id=chosen.coordinate_set_id,
            model_version=chosen.model_version,
            predicted_psnr=chosen.predicted_psnr_db,
        )
    )


def _importance_map(shown: Importance) -> ImportanceMap:
    data = base64.b64encode(shown.data).decode()
    return ImportanceMap(width=shown.width, height=shown.height, data=data)


def sampled_frame(message: FrameData) -> SampledFrame:
    """What a `frame_data` says."""
    return SampledFrame(
        frame_id=message.frame_id,
        coordinate_set_id=message.coordinate_set_id,
        samples=message.pixels,
        state=np.array(message.state_vector, np.float64).astype(np.float32),
        resolution=message.resolution,
        timestamp=message.timestamp,
    )


def whole_frame(message: Keyframe) -> WholeFrame:
    """What a `keyframe` says. Raises ProtocolError."""
    try:
        data = base64.b64decode(message.data, validate=True)
    except ValueError as error:
        raise ProtocolError(ErrorCode.BAD_KEYFRAME, f"data is not base64: {error}") from error
    return WholeFrame(frame_id=message.frame_id, encoding=message.encoding, data=data)


def coordinate_set(message: UvCoordinates) -> CoordinateSet:
    """What a `uv_coordinates` says. Raises ProtocolError."""
    rows = [(*coord, 1)[:3] for coord in message.coords]
    return CoordinateSet(
        frame_id=message.frame_id,
        coordinate_set_id=message.coordinate_set_id,
        coords=np.array(rows, np.float32).reshape(-1, 3),
        footprints=any(len(coord) > len("uv") for coord in message.coords),
        importance=_importance(message.importance_map) if message.importance_map else None,
        model_version=message.model_version,
        predicted_psnr_db=message.predicted_psnr,
    )


def _importance(shown: ImportanceMap) -> Importance:
    try:
        data = base64.b64decode(shown.data, validate=True)
    except ValueError as error:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"importance_map: {error}") from error
    if len(data) != shown.width * shown.height:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"importance_map: {len(data)} bytes are not {shown.width}x{shown.height}",
        )
    return Importance(width=shown.width, height=shown.height, data=data)
