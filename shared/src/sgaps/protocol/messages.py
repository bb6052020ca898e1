"""The messages of `/ws/stream`, each declared once. Names and fields are fixed: clients exist.

What a client sends is refused if it has an unknown field; what the server sends may grow, so a
client ignores fields it does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    WithJsonSchema,
)

from sgaps.protocol.bounds import MAX_SAMPLES, MAX_SIDE_PX, MAX_STATE_DIM
from sgaps.protocol.ids import ID_PATTERN
from sgaps.protocol.pixels import json_schema, rows_of
from sgaps.sampling.footprints import FOOTPRINTS_PX, Samples

PROTOCOL_VERSION = 1
MAX_FRAME_ID = 2**52 - 2
"""A set id is twice a frame id; a double, and so a JavaScript client, holds both exactly."""
MAX_SET_ID = 2**53 - 1
MAX_STATE_VALUE = 3.4028235e38
"""The largest float32 in its shortest decimal form; what is larger would become infinite."""

IMPORTANCE_MAP = "importance_map"
FOOTPRINT = "footprint"
"""What a client may offer in `client.features`."""


def _known_footprint(side_px: int) -> int:
    if side_px not in FOOTPRINTS_PX:
        raise ValueError(f"a footprint is one of {FOOTPRINTS_PX}")
    return side_px


Unit = Annotated[float, Field(ge=0, le=1)]
FrameId = Annotated[int, Field(ge=0, le=MAX_FRAME_ID)]
SetId = Annotated[int, Field(ge=0, le=MAX_SET_ID)]
Footprint = Annotated[
    int, AfterValidator(_known_footprint), Field(json_schema_extra={"enum": list(FOOTPRINTS_PX)})
]
Identifier = Annotated[str, Field(pattern=rf"\A{ID_PATTERN}\z")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
ShortText = Annotated[str, Field(max_length=128)]
StateValue = Annotated[float, Field(ge=-MAX_STATE_VALUE, le=MAX_STATE_VALUE)]
FrameIdOrNone = Annotated[int, Field(ge=-1, le=MAX_FRAME_ID)]
"""-1 where there is no frame."""
FramesPerSec = Annotated[float, Field(ge=1e-3, le=1e4)]
Secs = Annotated[float, Field(ge=0)]
Placement: TypeAlias = Literal["adaptive", "even"]
"""Samples where the model is unsure, or everywhere alike."""


class FromClient(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class FromServer(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Resolution(FromClient):
    """Pixels of the client's picture. `[width, height]` is read as well."""

    width: Side
    height: Side


def _resolution_from_pair(value: Any) -> Any:  # noqa: ANN401 - raw JSON comes in
    if isinstance(value, list) and len(value) == len(("width", "height")):
        return {"width": value[0], "height": value[1]}
    return value


AnyResolution = Annotated[
    Resolution,
    BeforeValidator(_resolution_from_pair, json_schema_input_type=Resolution | tuple[Side, Side]),
]


# One wrong pixel is enough to refuse a message: a million reasons took seconds to collect.
_few = Field(max_length=MAX_SAMPLES, fail_fast=True)
Pixels = Annotated[
    Samples,
    GetPydanticSchema(lambda _, schema_of: schema_of(Any)),
    PlainSerializer(rows_of, return_type=list),
    WithJsonSchema(json_schema()),
]
"""What `samples_of` has checked; what is made in Python is not checked."""


class ClientInfo(FromClient):
    name: ShortText
    version: ShortText
    features: Annotated[list[ShortText], Field(max_length=32)] = []


class SamplingWish(FromClient):
    """How a client would like to be sampled; `sample_count` of the answer tells what it gets."""

    sample_count: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = None
    """Absent: the server's own. More than `server.max_samples` become as many."""
    placement: Placement = "adaptive"


class SessionStart(FromClient):
    type: Literal["session_start"] = "session_start"
    checkpoint_key: Identifier
    resolution: AnyResolution
    max_state_dim: Annotated[int, Field(ge=0, le=MAX_STATE_DIM)]
    auth_token: Annotated[str, Field(max_length=1024)] | None = None
    color: Literal["gray"] = "gray"
    client: ClientInfo | None = None
    resume_session_id: Identifier | None = None
    sampling: SamplingWish | None = None


class FrameData(FromClient):
    type: Literal["frame_data"] = "frame_data"
    frame_id: FrameId
    pixels: Pixels
    state_vector: Annotated[list[StateValue], Field(max_length=MAX_STATE_DIM, fail_fast=True)]
    resolution: AnyResolution
    timestamp: float
    coordinate_set_id: SetId = 0
    """The set that was sampled; 0 where a client does not say."""


class Keyframe(FromClient):
    """The whole frame, sent just before the `frame_data` of the same id."""

    type: Literal["keyframe"] = "keyframe"
    frame_id: FrameId
    encoding: Literal["png", "jpeg"]
    data: str
    """Base64."""


class Heartbeat(FromClient):
    type: Literal["heartbeat"] = "heartbeat"
    timestamp: float


class SessionStartAck(FromServer):
    type: Literal["session_start_ack"] = "session_start_ack"
    session_id: Identifier
    checkpoint_loaded: bool
    sample_count: Annotated[int, Field(ge=0, le=MAX_SAMPLES)]
    max_state_dim: Annotated[int, Field(ge=0, le=MAX_STATE_DIM)]
    target_fps: FramesPerSec
    model_version: ShortText
    coordinate_set_id: SetId
    keyframe_interval: Annotated[int, Field(ge=0)]
    protocol_version: int = PROTOCOL_VERSION
    resumed: bool
    last_frame_id: FrameIdOrNone = -1
    """The newest frame the server has of a resumed session; the next id must be greater."""
    features: list[str] = []
    """Those of the client's that the session uses."""


class ImportanceMap(FromServer):
    width: Side
    height: Side
    data: str
    """Base64 of uint8 (height, width), 255 = most important."""


class UvCoordinates(FromServer):
    type: Literal["uv_coordinates"] = "uv_coordinates"
    frame_id: FrameIdOrNone
    """The frame this set was computed from; -1 for the first set of a session."""
    coords: (
        Annotated[list[tuple[Unit, Unit]], _few]
        | Annotated[list[tuple[Unit, Unit, Footprint]], _few]
    )
    """u, v, and where the session uses footprints the side in pixels of the square around them."""
    importance_map: ImportanceMap | None = None
    coordinate_set_id: SetId
    model_version: ShortText
    predicted_psnr: float | None = None


class HeartbeatAck(FromServer):
    type: Literal["heartbeat_ack"] = "heartbeat_ack"
    timestamp: float
    server_time: float
    last_recorded_frame_id: FrameIdOrNone
    """-1 until a frame is on disk."""
    target_fps: FramesPerSec


class Error(FromServer):
    type: Literal["error"] = "error"
    code: str
    message: str
    fatal: bool = False
    retry_after_secs: Secs | None = None


ClientMessage = Annotated[
    SessionStart | FrameData | Keyframe | Heartbeat, Field(discriminator="type")
]
ServerMessage = Annotated[
    SessionStartAck | UvCoordinates | HeartbeatAck | Error, Field(discriminator="type")
]
