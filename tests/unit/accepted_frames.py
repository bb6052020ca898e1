"""Frames of one sample, as a gateway accepts and stores them."""

from __future__ import annotations

import numpy as np

from sgaps.bus import MemoryBus, Push
from sgaps.keys import PastSamples, history_key
from sgaps.messages import FrameAccepted
from sgaps.packing import pack_floats, pack_pixels

KEPT = 4
"""Frames in the list of a session."""


def frame(
    frame_id: int, previous_frame_id: int | None = None, session_id: str = "a", *, width: int = 8
) -> FrameAccepted:
    return FrameAccepted(
        session_id=session_id,
        checkpoint_key="k",
        gateway_id="main",
        frame_id=frame_id,
        coordinate_set_id=2,
        width=width,
        height=6,
        samples_bytes=pack_pixels(np.array([[0.5, 0.5, (frame_id % 256) / 255]])),
        state_bytes=pack_floats(np.array([1.0])),
        client_time_secs=1.0,
        received_at_secs=2.0,
        previous_frame_id=previous_frame_id,
    )


async def store(bus: MemoryBus, accepted: FrameAccepted) -> None:
    """As a gateway does it."""
    stored = PastSamples(
        frame_id=accepted.frame_id,
        width=accepted.width,
        height=accepted.height,
        samples_bytes=accepted.samples_bytes,
    )
    await bus.write(Push(history_key(accepted.session_id), stored.encode(), KEPT, 99))
