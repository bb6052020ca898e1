"""Frames of one resolution as one model input: what trainer and reconstructor must do alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

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
    device: torch.device,
) -> ModelInput:
    """Pad the frames to a common length; padding and missing state are marked as such."""
    present = max(1, *(len(samples) for samples, _, _ in frames))
    pasts = [_with_ages(history, samples.shape[1]) for samples, history, _ in frames]
    columns = present + max(map(len, pasts))
    attended = present + max(
        sum(len(samples) for _, samples in history[:attended_frames]) for _, history, _ in frames
    )
    # u, v, C values, footprint, age.
    padded = np.zeros((len(frames), columns, frames[0][0].shape[1] + 1), np.float32)
    padded[..., -2] = 1
    valid = np.zeros(padded.shape[:2], bool)
    state = np.full((len(frames), max_state_dim), sentinel, np.float32)  # (B, S)
    for i, ((now, _, values), past) in enumerate(zip(frames, pasts, strict=True)):
        padded[i, : len(now), :-1] = now
        valid[i, : len(now)] = True
        padded[i, present : present + len(past)] = past
        valid[i, present : present + len(past)] = True
        state[i, : len(values)] = values[:max_state_dim]
    state_valid = (state != np.float32(sentinel)) & np.isfinite(state)
    samples = _on(device, padded)
    return ModelInput(
        uv=samples[..., :2],
        value=samples[..., 2:-2],
        footprint=samples[..., -2],
        age=samples[..., -1],
        present=present,
        attended=attended,
        valid=_on(device, valid),
        padded=not valid[:, :attended].all(),
        state=_on(device, np.where(state_valid, state, 0)),
        state_valid=_on(device, state_valid),
        height=height,
        width=width,
    )


def _on(device: torch.device, array: NDArray[Any]) -> torch.Tensor:
    """A copy on the device. A GPU fetches it by itself from memory that stays where it is."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _with_ages(history: Sequence[tuple[int, Float32]], columns: int) -> Float32:
    """(M, columns + 1): the samples of all frames, the age of each last. The order is kept."""
    rows = [
        np.column_stack([s, np.full(len(s), min(age, MOST_AGE_FRAMES + k), np.float32)])
        for k, (age, s) in enumerate(history)
    ]
    return np.concatenate([np.empty((0, columns + 1), np.float32), *rows]).astype(np.float32)
