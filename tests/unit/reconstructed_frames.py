"""What a reconstructor tells the sampler of a frame, as a test wants it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgaps.messages import FrameReconstructed
from sgaps.packing import pack_floats

RISING = np.linspace(0, 1, 1200).reshape(30, 40)


def frame_of(
    frame_id: int,
    *,
    session_id: str = "s",
    width: int = 320,
    height: int = 240,
    psnr_db: float | None = 20.0,
    sample_count: int = 500,
    footprints: bool = False,
    wanted_samples: int = 0,
    is_placed_evenly: bool = False,
    entropy: NDArray[np.floating] = RISING,
    log_error: NDArray[np.floating] | None = None,
) -> FrameReconstructed:
    return FrameReconstructed(
        session_id=session_id,
        gateway_id="g",
        frame_id=frame_id,
        width=width,
        height=height,
        sample_count=sample_count,
        footprints=footprints,
        wanted_samples=wanted_samples,
        is_placed_evenly=is_placed_evenly,
        grid_width=40,
        grid_height=30,
        entropy_bytes=pack_floats(entropy),
        log_error_bytes=b"" if log_error is None else pack_floats(log_error),
        predicted_psnr_db=psnr_db,
        model_version="v1",
        received_at_secs=1.0,
        queue_secs=0.0,
        inference_secs=0.0,
    )
