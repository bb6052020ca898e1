"""What a recorder is given, how it is set up, and what it has recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgaps.messages import FrameAccepted
from sgaps.packing import pack_floats, pack_pixels
from sgaps.recording import SegmentReader, find_segments
from sgaps.settings import Settings


def frame(session_id: str, frame_id: int, **changes: Any) -> FrameAccepted:
    fields: dict[str, Any] = {
        "session_id": session_id,
        "checkpoint_key": "doom",
        "gateway_id": "main",
        "frame_id": frame_id,
        "coordinate_set_id": 3,
        "width": 160,
        "height": 120,
        "samples_bytes": pack_pixels(np.full((5, 3), 0.5)),
        "state_bytes": pack_floats(np.arange(2.0)),
        "client_time_secs": frame_id / 10,
        "received_at_secs": 1e9,
    }
    return FrameAccepted(**(fields | changes))


def frames(session_id: str, *frame_ids: int) -> list[FrameAccepted]:
    return [frame(session_id, frame_id) for frame_id in frame_ids]


def with_recorder(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"recorder": settings.recorder.model_copy(update=changes)})


def recorded(settings: Settings) -> dict[str, list[int]]:
    """Session → ids of its frames in sealed segments, in order of recording."""
    found: dict[str, list[int]] = {}
    for info in find_segments(settings.data.recordings_dir):
        with SegmentReader(info.path) as reader:
            found.setdefault(info.session_id, []).extend(reader.frame_ids.tolist())
    return found


def recorded_ids(settings: Settings, session_id: str) -> list[int]:
    return recorded(settings).get(session_id, [])
