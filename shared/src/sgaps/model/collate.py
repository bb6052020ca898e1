"""Frames of one resolution as one model input: what trainer and reconstructor must do alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.model.transformer import ModelInput

MOST_AGE_FRAMES = 16
"""Frame ids may jump, a clock's by thousands, and what is farther back than any frame that a model
was trained on is only old."""

Float32: TypeAlias = NDArray[np.float32]
Frame: TypeAlias = tuple[Float32, Sequence[tuple[int, Float32]], Float32]
"""samples (N, 3 + C): u, v, one or three values, footprint; history [(age in frames, samples)]
newest first; state (S,)."""


def collate(
    frames: Sequence[Frame],
    *,
    width: int,
    height: int,
    attended_frames: int,
    max_state_dim: int,
    sentinel: float,
    room: tuple[int, int] = (1, 0),
) -> ModelInput:
    """Pad the frames to one shape, on the host; padding and missing state are marked as such.

    `room` is for how many samples of a frame, and for how many frames of the past, there are
    columns at least.
    """
    sets = [_of_all_ages(samples, history) for samples, history, _ in frames]
    count = max(room[0], *(len(samples) for one in sets for _, samples in one))
    times = max(room[1] + 1, *(len(one) for one in sets))
    # u, v, C values, footprint, age.
    padded = np.zeros((len(frames), times, count, frames[0][0].shape[1] + 1), np.float32)
    padded[..., -2] = 1
    valid = np.zeros(padded.shape[:3], bool)
    state = np.full((len(frames), max_state_dim), sentinel, np.float32)  # (B, S)
    for i, (one, (_, _, values)) in enumerate(zip(sets, frames, strict=True)):
        for k, (age, samples) in enumerate(one):
            padded[i, k, : len(samples), :-1] = samples
            padded[i, k, : len(samples), -1] = age
            valid[i, k, : len(samples)] = True
        state[i, : len(values)] = values[:max_state_dim]
    state_valid = (state != np.float32(sentinel)) & np.isfinite(state)
    attended = min(times, 1 + attended_frames)
    return ModelInput(
        samples=torch.from_numpy(padded).flatten(1, 2),
        present=count,
        attended=attended * count,
        valid=torch.from_numpy(valid).flatten(1, 2),
        padded=not valid[:, :attended].all(),
        state=torch.from_numpy(np.where(state_valid, state, 0)),
        state_valid=torch.from_numpy(state_valid),
        height=height,
        width=width,
    )


def _of_all_ages(
    samples: Float32, history: Sequence[tuple[int, Float32]]
) -> list[tuple[int, Float32]]:
    """(age in frames, samples) of a frame and of those before it, the newest first."""
    past = [(min(age, MOST_AGE_FRAMES + k), s) for k, (age, s) in enumerate(history)]
    return [(0, samples), *past]
