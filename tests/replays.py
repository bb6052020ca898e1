"""Sessions to replay: a sharp pattern that moves, sampled and recorded as a served session is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgaps.recording import RecordedFrame, SegmentWriter, next_segment_path, session_folder
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import load_settings
from sgaps_client.pictures import encoded_png

WIDTH, HEIGHT = 96, 64
SAMPLES = 120
KEY = "toy"
KEYFRAME_INTERVAL = 3
FRAME_SECS = 0.1


def scene(frame_id: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.where(((x + 2 * frame_id) // 9 + y // 9) % 2, 210, 40).astype(np.uint8)


def served(frame_id: int, **changes: Any) -> RecordedFrame:
    """With its samples, every third one with its true frame."""
    image = scene(frame_id)
    rng = np.random.default_rng(frame_id)
    coords = _sampler().sample(NOTHING_KNOWN, count=SAMPLES, width=WIDTH, height=HEIGHT, rng=rng)
    fields: dict[str, Any] = {
        "frame_id": frame_id,
        "coordinate_set_id": 2 * frame_id,
        "width": WIDTH,
        "height": HEIGHT,
        "samples": sample_image(image, coords),
        "state": np.array([frame_id, -999.0], np.float32),
        "client_time_secs": frame_id * FRAME_SECS,
        "received_at_secs": 1e9 + frame_id * FRAME_SECS,
    }
    if frame_id % KEYFRAME_INTERVAL == 0:
        fields |= {"keyframe_encoding": "png", "keyframe": encoded_png(image)}
    return RecordedFrame(**(fields | changes))


@cache
def _sampler() -> AdaptiveUVSampler:
    return AdaptiveUVSampler(load_settings(environment={}).sampling, footprints=True)


def captured(frame_id: int) -> RecordedFrame:
    """Whole, without samples, as `sgaps capture` writes it."""
    nothing = np.empty((0, 4), np.float32)
    whole = encoded_png(scene(frame_id))
    return served(frame_id, samples=nothing, keyframe_encoding="png", keyframe=whole)


def record(root: Path, session: str, frames: Iterable[RecordedFrame]) -> Path:
    """A sealed segment of a session, by the recorder's own writer."""
    writer = SegmentWriter(
        next_segment_path(session_folder(root, KEY, session)),
        checkpoint_key=KEY,
        session_id=session,
        max_state_dim=4,
        sentinel=-999.0,
    )
    writer.append(list(frames))
    writer.sync()
    writer.seal()
    return writer.path
