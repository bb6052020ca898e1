"""What a message of a client becomes: checked once against its session, then packed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.pictures import check_picture
from gateway.session import Session
from sgaps.bus import Count, Operation, Publish, Push, Put
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.keys import (
    MEMORY_TTL_SECS,
    SESSION_TTL_SECS,
    PastSamples,
    history_key,
    session_key,
)
from sgaps.messages import FrameAccepted
from sgaps.packing import PIXEL_BYTES, pack_floats, pack_footprints, pack_pixels
from sgaps.protocol.binary_codec import ValuesOfFrame
from sgaps.protocol.content import SampledFrame, WholeFrame
from sgaps.protocol.messages import FOOTPRINT, Resolution
from sgaps.settings import ServerSettings

HOLDER = "gateway_id"
"""Field of a session's hash: the gateway that its newest socket is at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedFrame:
    """A client's frame as the streams have it, whichever form it came in."""

    frame_id: int
    coordinate_set_id: int
    samples_bytes: bytes
    footprint_bytes: bytes
    state_bytes: bytes
    resolution: Resolution
    timestamp: float


def packed(frame: SampledFrame) -> PackedFrame:
    """A frame that says where it was sampled."""
    return PackedFrame(
        frame_id=frame.frame_id,
        coordinate_set_id=frame.coordinate_set_id,
        samples_bytes=pack_pixels(frame.samples),
        footprint_bytes=pack_footprints(frame.samples[:, 3]),
        state_bytes=pack_floats(frame.state),
        resolution=frame.resolution,
        timestamp=frame.timestamp,
    )


def at_its_coordinates(frame: ValuesOfFrame, session: Session) -> PackedFrame:
    """A frame that says which set it was sampled at. Raises ProtocolError."""
    sent = session.sets.get(frame.coordinate_set_id)
    if sent is None:
        raise ProtocolError(
            ErrorCode.UNKNOWN_SET,
            f"set {frame.coordinate_set_id} is none of the newest {session.sets_kept} that "
            "were sent",
        )
    frame.check_count(sent.count)
    return PackedFrame(
        frame_id=frame.frame_id,
        coordinate_set_id=frame.coordinate_set_id,
        samples_bytes=sent.uv_bytes + frame.values.tobytes(),
        footprint_bytes=sent.footprint_bytes,
        state_bytes=pack_floats(frame.state),
        resolution=frame.resolution,
        timestamp=frame.timestamp,
    )


def accept_frame(
    frame: PackedFrame,
    session: Session,
    *,
    gateway_id: str,
    traceparent: str = "",
) -> FrameAccepted:
    """Check a frame against its session. Raises ProtocolError."""
    newest = _check_order(frame.frame_id, session)
    samples, states = len(frame.samples_bytes) // PIXEL_BYTES, len(frame.state_bytes) // 4
    if not 1 <= samples <= session.sample_count:
        raise ProtocolError(
            ErrorCode.TOO_MANY_SAMPLES if samples else ErrorCode.BAD_MESSAGE,
            f"{samples} pixels; a frame has 1 to {session.sample_count}",
        )
    if states > session.limits.max_state_dim:
        raise ProtocolError(
            ErrorCode.STATE_TOO_LONG,
            f"state_vector has {states} entries, at most {session.limits.max_state_dim}",
        )
    _check_resolution(frame.resolution, session)
    if not session.footprints and frame.footprint_bytes:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE, f"the client did not offer {FOOTPRINT!r} in session_start"
        )
    held = session.keyframe
    keyframe = held if held and held.frame_id == frame.frame_id else None
    return FrameAccepted(
        session_id=session.session_id,
        checkpoint_key=session.checkpoint_key,
        gateway_id=gateway_id,
        frame_id=frame.frame_id,
        coordinate_set_id=frame.coordinate_set_id,
        width=frame.resolution.width,
        height=frame.resolution.height,
        samples_bytes=frame.samples_bytes,
        footprint_bytes=frame.footprint_bytes,
        footprints=session.footprints,
        wanted_samples=session.sample_count,
        is_placed_evenly=session.placement == "even",
        previous_frame_id=newest,
        state_bytes=frame.state_bytes,
        client_time_secs=frame.timestamp,
        received_at_secs=time.time(),
        keyframe_encoding=keyframe.encoding if keyframe else "",
        keyframe=keyframe.data if keyframe else b"",
        traceparent=traceparent,
    )


def _check_order(frame_id: int, session: Session) -> int:
    """The newest one before it. Raises ProtocolError."""
    newest = max(session.last_frame_id, session.used_frame_id)
    if frame_id <= newest:
        raise ProtocolError(ErrorCode.FRAME_ID_BACKWARDS, f"frame_id {frame_id} after {newest}")
    return newest


def _check_resolution(resolution: Resolution, session: Session) -> None:
    if resolution != session.resolution:
        raise ProtocolError(
            ErrorCode.RESOLUTION_MISMATCH,
            f"frame is {resolution.width}x{resolution.height}, the session "
            f"{session.resolution.width}x{session.resolution.height}; start a new session",
        )


def keyframe_interval(resolution: Resolution, server: ServerSettings) -> int:
    """Every how many frames a session brings a whole one; 0: it brings none."""
    is_large = resolution.width * resolution.height > server.max_keyframe_pixels
    return 0 if is_large else server.keyframe_interval


async def accept_keyframe(keyframe: WholeFrame, session: Session, server: ServerSettings) -> None:
    """Check that a keyframe is a picture of the session's size, and hold it for its frame.

    Raises ProtocolError.
    """
    _check_order(keyframe.frame_id, session)
    if not keyframe_interval(session.resolution, server):
        raise ProtocolError(
            ErrorCode.BAD_KEYFRAME, "keyframe_interval was 0: this session brings no keyframes"
        )
    # Decoding lets go of the interpreter: the other sessions go on meanwhile.
    await asyncio.to_thread(check_picture, keyframe.data, keyframe.encoding, session.resolution)
    session.keyframe = keyframe


def storing(frame: FrameAccepted, session: Session, *, history_frames: int) -> list[Operation]:
    """The one write that makes a frame accepted: stream, history, session, ledger."""
    past = PastSamples(
        frame_id=frame.frame_id,
        width=frame.width,
        height=frame.height,
        samples_bytes=frame.samples_bytes,
        footprint_bytes=frame.footprint_bytes,
    )
    # The newest entry is the frame itself; a frame's past are the ones behind it.
    keep = history_frames + 1
    return [
        Publish(frame),
        Push(history_key(frame.session_id), past.encode(), keep, MEMORY_TTL_SECS),
        remembering(session, frame.frame_id),
        Count("received"),
    ]


def remembering(session: Session, last_frame_id: int) -> Put:
    """What another gateway, or this one after a crash, needs to resume the session.

    A write that was given up may be done after the next one, which it does not undo.
    """
    fields = {
        "checkpoint_key": session.checkpoint_key.encode(),
        "last_frame_id": b"%d" % last_frame_id,
        "started_at_secs": repr(session.started_at_secs).encode(),
    }
    key = session_key(session.session_id)
    return Put(key, fields, SESSION_TTL_SECS, rising="last_frame_id")


def holding(session: Session, gateway_id: str) -> Put:
    """Tells the gateway that had the session until now that it is this one's.

    No part of `remembering`: frames of an older socket must not bring the session back to it.
    """
    return Put(session_key(session.session_id), {HOLDER: gateway_id.encode()}, SESSION_TTL_SECS)


def is_held_elsewhere(fields: Mapping[str, bytes], gateway_id: str) -> bool:
    """Whether a session went on at another gateway, by what the broker knows of it."""
    holder = fields.get(HOLDER)
    return holder is not None and holder != gateway_id.encode()
