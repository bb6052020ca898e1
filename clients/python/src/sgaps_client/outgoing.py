"""What a client sends, built from pictures and settings. No I/O."""

from __future__ import annotations

import base64
import time

import numpy as np
from numpy.typing import NDArray

from sgaps.protocol.messages import (
    FOOTPRINT,
    IMPORTANCE_MAP,
    ClientInfo,
    FrameData,
    Keyframe,
    Resolution,
    SessionStart,
)
from sgaps.sampling.footprints import sample_image
from sgaps_client.state import ClientState, SessionConfig

CLIENT_VERSION = "0.1.0"
DECIMALS = 6
"""A thousandth of a pixel at 1000 pixels; the other digits of a float32 only cost bytes."""


def session_start(config: SessionConfig, *, resume_session_id: str | None) -> SessionStart:
    """The first message of a connection."""
    return SessionStart(
        checkpoint_key=config.checkpoint_key,
        resolution=Resolution(width=config.width, height=config.height),
        max_state_dim=config.state_dim,
        auth_token=config.auth_token,
        client=ClientInfo(
            name="sgaps_client",
            version=CLIENT_VERSION,
            features=[FOOTPRINT, *([IMPORTANCE_MAP] if config.wants_importance else [])],
        ),
        resume_session_id=resume_session_id,
    )


def frame_data(
    image: NDArray[np.uint8],
    state_vector: NDArray[np.float32],
    *,
    frame_id: int,
    client_state: ClientState,
) -> FrameData:
    """Sample an image (H, W) at the newest coordinates; the state is cut to what was agreed."""
    height, width = image.shape
    samples = sample_image(image, client_state.coords).astype(np.float64)
    u, v, value = np.round(samples[:, :3].T, DECIMALS).tolist()
    side_px = samples[:, 3].astype(int).tolist()
    squares = list(zip(u, v, value, side_px, strict=True))
    return FrameData(
        frame_id=frame_id,
        pixels=squares if client_state.footprints else list(zip(u, v, value, strict=True)),
        state_vector=state_vector[: client_state.max_state_dim].tolist(),
        resolution=Resolution(width=width, height=height),
        timestamp=time.time(),
        coordinate_set_id=client_state.coordinate_set_id,
    )


def keyframe(png: bytes, *, frame_id: int) -> Keyframe:
    """A whole frame for the `frame_data` of the same id, which follows it."""
    return Keyframe(frame_id=frame_id, encoding="png", data=base64.b64encode(png).decode())
