"""Frames of one resolution as one model input: what trainer and reconstructor must do alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.model.inputs import ModelInput

MOST_AGE_FRAMES = 16
"""Frame ids may jump, a clock's by thousands, and what is farther back than any frame that a model
was trained on is only old."""
LARGEST_STATE = 1e7
"""In size. A larger value counts as missing: no place, angle or count of a game is so large, but a
clock since 1970 is, and what is so far from all that was learned shows less than no state."""

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
    pasts = [history for _, history, _ in frames]
    present = max([room[0], *(len(samples) for samples, _, _ in frames)])
    older = max([room[0], *(len(samples) for past in pasts for _, samples in past)])
    times = max([room[1], *map(len, pasts)])
    # u, v, C values, footprint, age.
    shape = (len(frames), present + times * older, frames[0][0].shape[1] + 1)
    padded = np.zeros(shape, np.float32)
    padded[..., -2] = 1
    valid = np.zeros(shape[:2], bool)
    state = np.full((len(frames), max_state_dim), sentinel, np.float32)  # (B, S)
    for i, (now, past, values) in enumerate(frames):
        aged = [
            (present + k * older, min(age, MOST_AGE_FRAMES + k), samples)
            for k, (age, samples) in enumerate(past)
        ]
        for start, age, samples in [(0, 0, now), *aged]:
            columns = slice(start, start + len(samples))
            padded[i, columns, :-1] = samples
            padded[i, columns, -1] = age
            valid[i, columns] = True
        state[i, : len(values)] = values[:max_state_dim]
    # What is no number is not below anything.
    state_valid = (state != np.float32(sentinel)) & (np.abs(state) <= LARGEST_STATE)
    attended = present + min(times, attended_frames) * older
    return ModelInput(
        samples=torch.from_numpy(padded),
        present=present,
        attended=attended,
        valid=torch.from_numpy(valid),
        padded=not valid[:, :attended].all(),
        state=torch.from_numpy(np.where(state_valid, state, 0)),
        state_valid=torch.from_numpy(state_valid),
        height=height,
        width=width,
    )
