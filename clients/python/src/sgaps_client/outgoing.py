"""What a client sends, built from pictures and settings. No I/O."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import SgapsError
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import SampledFrame, WholeFrame
from sgaps.protocol.messages import FOOTPRINT, ClientInfo, Resolution, SessionStart
from sgaps.sampling.footprints import sample_image
from sgaps_client.sources.base import MISSING
from sgaps_client.state import ClientState, SessionConfig

CLIENT_VERSION = "0.1.0"


class WrongPicture(SgapsError):
    """A picture is not one that its session is about. The message names the cure."""


class Codec(Protocol):
    """How bulky messages are written: a module of sgaps.protocol."""

    def encode_frame(self, frame: SampledFrame) -> str | bytes: ...

    def encode_keyframe(self, keyframe: WholeFrame) -> str | bytes: ...


def codec_of(subprotocol: str | None) -> Codec:
    """The form that the server chose."""
    return binary_codec if subprotocol == binary_codec.SUBPROTOCOL else json_codec


def check_picture(image: NDArray[np.uint8], config: SessionConfig) -> None:
    """Raises WrongPicture: numbers of another kind would be sampled as black, or as noise."""
    shape = (config.height, config.width)
    told = type(image).__name__
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.shape == shape:
            return
        told = f"{image.dtype} {image.shape}"
    raise WrongPicture(
        f"the picture is {told}; the session takes gray bytes, uint8 (H, W) = {shape}, such as "
        "cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)"
    )


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
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: no number
        state = np.asarray(state_vector[: client_state.max_state_dim], np.float32)
    return SampledFrame(
        frame_id=frame_id,
        coordinate_set_id=client_state.coordinate_set_id,
        samples=sample_image(image, client_state.coords),
        state=np.where(np.isfinite(state), state, np.float32(MISSING)),
        resolution=Resolution(width=width, height=height),
        timestamp=time.time(),
    )


def written(
    frame: SampledFrame, keyframe_png: bytes | None, *, subprotocol: str | None
) -> list[str | bytes]:
    """A frame, after its keyframe."""
    codec = codec_of(subprotocol)
    messages = [codec.encode_frame(frame)]
    if keyframe_png is not None:
        whole = WholeFrame(frame_id=frame.frame_id, encoding="png", data=keyframe_png)
        messages.insert(0, codec.encode_keyframe(whole))
    return messages
