"""One frame of a recording, rebuilt by a checkpoint from what the session had sent until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.atlas import blend
from sgaps.model import collate, predicted_psnr_db
from sgaps.protocol.content import PictureEncoding
from sgaps.protocol.views import (
    Counters,
    ImportanceShown,
    Parts,
    StagesMs,
    View,
    ViewHeader,
    pack_samples,
    shown_state,
)
from sgaps.recording import RecordedFrame, frames_before
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import Samples, sample_error, sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import Settings
from sgaps.whole_frames import picture_of, picture_psnr_db
from sgaps_cli.replay.errors import ReplayError
from sgaps_cli.replay.library import Library, Reel
from sgaps_cli.replay.models import Loaded
from sgaps_cli.segment_check import keyframe_problem
from sgaps_client.pictures import encoded_png

MAX_PIXELS = 1920 * 1080
"""Of a frame: the model's last layers take half a gigabyte for so many."""
ERROR_GAIN = 4
"""The brightest expected error is a quarter of white, as in the page's picture of true errors."""
NO_COUNTERS = Counters(
    frames_received=0,
    frames_answered=0,
    frames_dropped=0,
    messages_refused=0,
    bytes_up=0,
    bytes_down=0,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """What a model sees of a frame, and what it is compared with."""

    frame: RecordedFrame
    samples: Samples
    history: tuple[tuple[int, Samples], ...]
    """(age in frames, samples), the newest first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rebuilt:
    """What a model makes of it."""

    image: NDArray[np.uint8]
    """(H, W)"""
    log_error: NDArray[np.float32] | None
    """(gh, gw): expected log RMS error; None of a model that has not learned to expect any."""


def take_shot(
    library: Library, reel: Reel, position: int, settings: Settings, *, history_frames: int
) -> Shot:
    """A frame with its past. Raises NotListed, ReplayError, RecordingError."""
    frame = library.read(reel, position)
    if frame.width * frame.height > MAX_PIXELS:
        raise ReplayError(
            f"frame {frame.frame_id} has {frame.width}x{frame.height} pixels, and a replay "
            f"rebuilds {MAX_PIXELS} at most; record it smaller: sgaps import --width 640"
        )
    samples = samples_of(frame, settings)
    if not len(samples):
        raise ReplayError(
            f"frame {frame.frame_id} has neither samples nor a whole picture, so there is nothing "
            "to rebuild it from; go on to the next one"
        )
    past = frames_before(
        lambda place: library.read(reel, place),
        reel.frame_ids,
        position,
        history_frames,
        size=(frame.width, frame.height),
    )
    history = ((age, _older_samples(before, settings)) for age, before in past)
    return Shot(
        frame=frame,
        samples=samples,
        history=tuple((age, older) for age, older in history if len(older)),
    )


def _older_samples(frame: RecordedFrame, settings: Settings) -> Samples:
    """(N, 4), none of a whole picture that cannot be decoded: later frames do without it."""
    try:
        return samples_of(frame, settings)
    except ReplayError:
        return frame.samples


def samples_of(frame: RecordedFrame, settings: Settings) -> Samples:
    """(N, 4): as the game sent them; of a frame that was captured whole, as it might have.

    Then they are even squares, always the same of the same frame. Raises ReplayError.
    """
    if len(frame.samples) or not frame.keyframe:
        return frame.samples
    sampler = AdaptiveUVSampler(settings.sampling, footprints=True)
    coords = sampler.sample(
        NOTHING_KNOWN,
        count=min(settings.sampling.default_sample_count, frame.width * frame.height),
        width=frame.width,
        height=frame.height,
        rng=np.random.default_rng((settings.sampling.seed, frame.frame_id)),
    )
    return sample_image(true_picture(frame), coords)


def true_picture(frame: RecordedFrame) -> NDArray[np.uint8]:
    """The luma of a whole frame (H, W). Raises ReplayError."""
    picture = picture_of(frame.keyframe, frame.width, frame.height)
    if picture is None:
        problem = keyframe_problem(frame)
        raise ReplayError(f"{problem}; `sgaps recordings repair` sets the segment aside")
    return picture


@torch.inference_mode()
def rebuild(shot: Shot, loaded: Loaded, *, sentinel: float) -> Rebuilt:
    """One forward pass on the CPU, and what the atlas tells."""
    frame = shot.frame
    inputs = collate(
        [(shot.samples, shot.history, frame.state)],
        width=frame.width,
        height=frame.height,
        attended_frames=loaded.settings.attended_frames,
        max_state_dim=loaded.settings.max_state_dim,
        sentinel=sentinel,
    )
    output = loaded.model(inputs)
    image, log_error = blend.with_atlas(
        loaded.atlas,
        blend.Rebuilt(
            output.frame[0, 0].mul(255).round().to(torch.uint8).numpy(),
            output.log_error[0].float().numpy(),
        ),
        samples=shot.samples,
        state=frame.state,
        sentinel=sentinel,
    )
    return Rebuilt(image=image, log_error=log_error if loaded.is_trained else None)


def measured_psnr_db(shot: Shot, rebuilt: Rebuilt) -> float | None:
    """None where no true frame was recorded. Raises ReplayError."""
    if not shot.frame.keyframe:
        return None
    return picture_psnr_db(rebuilt.image, true_picture(shot.frame))


def view_of(
    shot: Shot,
    rebuilt: Rebuilt,
    *,
    version: str,
    session_id: str,
    sentinel: float,
    took_secs: float,
) -> View:
    """As a gateway shows it, but for one thing: in place of the importance is the expected error,
    as bright as the page paints true errors. Raises ReplayError."""
    frame, samples = shot.frame, shot.samples
    packed = pack_samples(samples)
    truth = true_picture(frame) if frame.keyframe else None
    png, expected = encoded_png(rebuilt.image), _brightness(rebuilt.log_error)
    rows, columns = expected.shape
    header = ViewHeader(
        session_id=session_id,
        frame_id=frame.frame_id,
        model_version=version,
        width=frame.width,
        height=frame.height,
        predicted_psnr=None if rebuilt.log_error is None else predicted_psnr_db(rebuilt.log_error),
        measured_psnr=None if truth is None else picture_psnr_db(rebuilt.image, truth),
        sample_error=None if truth is None else sample_error(samples, truth),
        received_at=frame.received_at_secs,
        stages_ms=StagesMs(queue=0, inference=took_secs * 1000, answer=None),
        counters=NO_COUNTERS,
        state=shown_state(frame.state, sentinel),
        importance=ImportanceShown(frame_id=frame.frame_id, width=columns, height=rows)
        if expected.size
        else None,
        true_frame=cast(PictureEncoding, frame.keyframe_encoding) if frame.keyframe else None,
        parts=Parts(
            reconstruction=len(png),
            samples=len(packed),
            importance=expected.size,
            true_frame=len(frame.keyframe),
        ),
    )
    return View(
        header=header,
        reconstruction=png,
        samples=packed,
        importance=expected.tobytes(),
        true_frame=frame.keyframe,
    )


def _brightness(log_error: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """(gh, gw) → uint8 (gh, gw); without cells where nothing is expected."""
    if log_error is None:
        return np.empty((0, 0), np.uint8)
    return np.asarray(np.clip(np.exp(log_error) * ERROR_GAIN * 255, 0, 255), np.uint8)
