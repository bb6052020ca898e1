"""Frames of random content, and segments of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgaps.recording import RecordedFrame, SegmentWriter
from sgaps.sampling.footprints import FOOTPRINTS_PX


def random_samples(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    numbers = rng.random((count, 3), np.float32)
    return np.column_stack([numbers, rng.choice(FOOTPRINTS_PX, count)]).astype(np.float32)


def make_frame(frame_id: int, **changes: Any) -> RecordedFrame:
    rng = np.random.default_rng(abs(frame_id))
    fields: dict[str, Any] = {
        "frame_id": frame_id,
        "coordinate_set_id": frame_id + 1,
        "width": 160,
        "height": 120,
        "samples": random_samples(rng, frame_id % 7),
        "state": rng.random(frame_id % 5, np.float32),
        "client_time_secs": frame_id / 10,
        "received_at_secs": 1e9 + frame_id,
    }
    return RecordedFrame(**(fields | changes))


def keyframe(frame_id: int) -> RecordedFrame:
    return make_frame(frame_id, keyframe_encoding="png", keyframe=b"\x89PNG%d" % frame_id)


def content(frame: RecordedFrame) -> tuple[Any, ...]:
    values = (getattr(frame, name) for name in RecordedFrame.__slots__)
    return tuple(v.tolist() if isinstance(v, np.ndarray) else v for v in values)


def open_writer(root: Path, number: int = 0, **changes: Any) -> SegmentWriter:
    fields: dict[str, Any] = {
        "checkpoint_key": "doom",
        "session_id": "s-1",
        "max_state_dim": 4,
        "sentinel": -999.0,
        **changes,
    }
    path = root / fields["checkpoint_key"] / fields["session_id"] / f"{number:06d}.h5"
    return SegmentWriter(path, **fields)


def write_segment(
    root: Path, frames: Sequence[RecordedFrame], number: int = 0, **changes: Any
) -> Path:
    writer = open_writer(root, number, **changes)
    writer.append(frames)
    return writer.seal()
