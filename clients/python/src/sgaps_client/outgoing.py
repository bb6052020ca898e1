"""What a client sends, built from pictures and settings. No I/O."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import SampledFrame, WholeFrame
from sgaps.protocol.messages import FOOTPRINT, ClientInfo, Resolution, SessionStart
from sgaps.sampling.footprints import sample_image
from sgaps_client.sources.base import MISSING
from sgaps_client.state import ClientState, SessionConfig

CLIENT_VERSION = "0.1.0"


class Codec(Protocol):
    """How bulky messages are written: a module of sgaps.protocol."""

    def encode_frame(self, frame: SampledFrame) -> str | bytes: ...

    def encode_keyframe(self, keyframe: WholeFrame) -> str | bytes: ...


def codec_of(subprotocol: str | None) -> Codec:
    """The form that the server chose."""
    return binary_codec if subprotocol == binary_codec.SUBPROTOCOL else json_codec


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
            features=[FOOTPRINT],
        ),
        resume_session_id=resume_session_id,
    )


def sampled_frame(
    image: NDArray[np.uint8],
    state_vector: NDArray[np.float32],
    *,
    frame_id: int,
    client_state: ClientState,
) -> SampledFrame:
    """Sample an image (H, W) at the newest coordinates; the state is cut to what was agreed, and
    what is no number in it is missing."""
    height, width = image.shape
    state = state_vector[: client_state.max_state_dim]
    return SampledFrame(
        frame_id=frame_id,
        coordinate_set_id=client_state.coordinate_set_id,
        samples=sample_image(image, client_state.coords),
        state=np.where(np.isfinite(state), state, np.float32(MISSING)),
        resolution=Resolution(width=width, height=height),
        timestamp=time.time(),
    )
