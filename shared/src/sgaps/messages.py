"""What travels on the streams: one frozen struct per kind of entry, its stream on the class.

An entry holds one field, the struct as MessagePack; arrays travel in it as bytes (`sgaps.packing`).
Unknown fields are ignored, so that services of two releases can share a stream.
"""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec

from sgaps.errors import MessageError
from sgaps.packing import PIXEL_BYTES, Float32, unpack_coords, unpack_floats, unpack_pixels
from sgaps.probe import is_probe


def chosen_set_id(frame_id: int) -> int:
    """Id of the coordinate set computed from a frame: even, and larger for later frames.

    It follows from the frame alone, so replicas of the sampler need not agree on a counter.
    """
    return 2 * frame_id + 2


def first_set_id(last_frame_id: int) -> int:
    """Id of the set a session starts or resumes with: odd, so never one of the sampler's."""
    return 2 * last_frame_id + 3


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A struct that is stored as MessagePack."""

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote. Raises MessageError if it is something else."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MessageError(f"not a {cls.__name__}: {error}") from error


class Message(Packed, frozen=True, kw_only=True):
    """Base of all stream messages."""

    STREAM: ClassVar[str]

    @property
    def stream(self) -> str:
        """The stream this message is published on."""
        return self.STREAM

    @property
    def is_probe(self) -> bool:
        """Whether it is about a gateway's own frame, which no ledger counts."""
        return is_probe(getattr(self, "session_id", ""))


class FrameAccepted(Message, frozen=True, kw_only=True):
    """One accepted frame of one session: gateway → reconstructors and recorder."""

    STREAM: ClassVar[str] = "sgaps:frames"

    session_id: str
    checkpoint_key: str
    gateway_id: str
    frame_id: int
    coordinate_set_id: int
    width: int
    height: int
    samples_bytes: bytes
    """u, v and value of N samples (`pack_pixels`); v grows down."""
    state_bytes: bytes
    """float32 (S,): may be shorter than max_state_dim; the sentinel marks a missing value."""
    client_time_secs: float
    received_at_secs: float
    """Wall clock of the gateway; the only clock that latency is measured with."""
    footprint_bytes: bytes = b""
    """uint8 (N,): side in pixels of each sample's square; empty = all are points."""
    footprints: bool = False
    """Whether the client can sample squares."""
    wanted_samples: int = 0
    """How many the session was promised; 0: `sampling.default_sample_count`."""
    is_placed_evenly: bool = False
    """Whether the session wants its samples everywhere alike, not where the model is unsure."""
    previous_frame_id: int | None = None
    """The session's last one before it; -1: there is none. None: nothing is said of it."""
    keyframe_encoding: str = ""
    keyframe: bytes = b""
    """The whole true frame as PNG or JPEG, for training and evaluation; usually absent."""
    traceparent: str = ""
    """W3C trace context; empty where the frame is not traced."""

    @property
    def sample_count(self) -> int:
        return len(self.samples_bytes) // PIXEL_BYTES

    @property
    def samples(self) -> Float32:
        """(N, 4): u, v, value, footprint. Raises MessageError."""
        return unpack_pixels(self.samples_bytes, self.footprint_bytes)

    @property
    def state(self) -> Float32:
        return unpack_floats(self.state_bytes, -1)


class FrameReconstructed(Message, frozen=True, kw_only=True):
    """What the model learned from one frame: reconstructor → sampler. Pictures stay out of it."""

    STREAM: ClassVar[str] = "sgaps:reconstructions"

    session_id: str
    gateway_id: str
    frame_id: int
    width: int
    height: int
    sample_count: int
    grid_width: int
    grid_height: int
    entropy_bytes: bytes
    """float32 (grid_height, grid_width): attention entropy per query, in nats over log N: 0..1;
    empty where nothing was computed."""
    log_error_bytes: bytes
    """float32 (grid_height, grid_width): predicted log |error| per query; empty without a model."""
    predicted_psnr_db: float | None
    model_version: str
    received_at_secs: float
    queue_secs: float
    inference_secs: float
    footprints: bool = False
    """Whether the client can sample squares."""
    traceparent: str = ""
    """W3C trace context; empty where the frame is not traced."""
    wanted_samples: int = 0
    """As in `FrameAccepted`."""
    is_placed_evenly: bool = False

    @property
    def entropy(self) -> Float32 | None:
        return self._map(self.entropy_bytes)

    @property
    def log_error(self) -> Float32 | None:
        return self._map(self.log_error_bytes)

    def _map(self, data: bytes) -> Float32 | None:
        return unpack_floats(data, self.grid_height, self.grid_width) if data else None


class CoordinatesChosen(Message, frozen=True, kw_only=True):
    """The next UV set of one session: sampler → the gateway that owns the session."""

    STREAM: ClassVar[str] = "sgaps:coordinates"

    session_id: str
    gateway_id: str
    frame_id: int
    """The frame this set was computed from (and which it answers)."""
    coordinate_set_id: int
    coords_bytes: bytes
    """float32 (N, 2): u, v."""
    importance_width: int
    importance_height: int
    importance: bytes
    """uint8 (importance_height, importance_width), 255 = most important."""
    model_version: str
    predicted_psnr_db: float | None
    received_at_secs: float
    footprint_bytes: bytes = b""
    """uint8 (N,): side in pixels of each square; empty = all are points."""
    traceparent: str = ""
    """W3C trace context; empty where the frame is not traced."""

    @property
    def stream(self) -> str:
        return self.stream_of(self.gateway_id)

    @classmethod
    def stream_of(cls, gateway_id: str) -> str:
        return f"{cls.STREAM}:{gateway_id}"

    @property
    def coords(self) -> Float32:
        """(N, 3): u, v, footprint. Raises MessageError."""
        return unpack_coords(self.coords_bytes, self.footprint_bytes)


class ViewEncoded(Message, frozen=True, kw_only=True):
    """A frame for people to look at, with all that is known of it where it is rebuilt;
    published only while somebody watches."""

    STREAM: ClassVar[str] = "sgaps:views"

    session_id: str
    frame_id: int
    width: int
    height: int
    """Of the frame: its session may have gone on in another size."""
    model_version: str
    reconstruction_png: bytes
    samples_bytes: bytes = b""
    """As in FrameAccepted, like all that is named as there."""
    footprint_bytes: bytes = b""
    state_bytes: bytes = b""
    keyframe_encoding: str = ""
    keyframe: bytes = b""
    predicted_psnr_db: float | None = None
    measured_psnr_db: float | None = None
    """Against the keyframe, at most 100; None without one."""
    sample_error: float | None = None
    """How far the samples are from the keyframe at their places, 0..1; None without one."""
    received_at_secs: float = 0.0
    queue_secs: float = 0.0
    inference_secs: float = 0.0

    @property
    def samples(self) -> Float32:
        """(N, 4): u, v, value, footprint. Raises MessageError."""
        return unpack_pixels(self.samples_bytes, self.footprint_bytes)

    @property
    def state(self) -> Float32:
        return unpack_floats(self.state_bytes, -1)

    @property
    def stream(self) -> str:
        return self.stream_of(self.session_id)

    @classmethod
    def stream_of(cls, session_id: str) -> str:
        return f"{cls.STREAM}:{session_id}"


class SegmentSealed(Message, frozen=True, kw_only=True):
    """A recording segment that will not change any more: recorder → trainer."""

    STREAM: ClassVar[str] = "sgaps:recordings"

    checkpoint_key: str
    session_id: str
    path: str
    """Relative to the recordings folder."""
    frame_count: int
    size_bytes: int


class CheckpointPublished(Message, frozen=True, kw_only=True):
    """A checkpoint is on disk and current: trainer → every reconstructor."""

    STREAM: ClassVar[str] = "sgaps:checkpoints"

    checkpoint_key: str
    model_version: str
    val_psnr_db: float


class DeadLetter(Message, frozen=True, kw_only=True):
    """An entry that failed its consumers as often as they try, kept for people to look at."""

    STREAM: ClassVar[str] = "sgaps:dead"

    source_stream: str
    group: str
    entry_id: str
    deliveries: int
    reason: str
    data: bytes
