"""Frames of one resolution as one model input: what trainer and reconstructor must do alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.model.transformer import ModelInput

Float32: TypeAlias = NDArray[np.float32]
Frame: TypeAlias = tuple[Float32, Sequence[tuple[int, Float32]], Float32]
"""samples (N, 3), history [(age in frames, samples)], state (S,)."""


def collate(
    frames: Sequence[Frame],
    *,
    width: int,
    height: int,
    max_state_dim: int,
    sentinel: float,
    device: torch.device,
) -> ModelInput:
    """Pad the frames to a common length; padding and missing state are marked as such."""
    rows = [_with_ages(samples, history) for samples, history, _ in frames]
    padded = np.zeros((len(rows), max(1, *map(len, rows)), 4), np.float32)  # (B, N, 4)
    valid = np.zeros(padded.shape[:2], bool)
    state = np.full((len(rows), max_state_dim), sentinel, np.float32)  # (B, S)
    for i, (row, (_, _, values)) in enumerate(zip(rows, frames, strict=True)):
        padded[i, : len(row)] = row
        valid[i, : len(row)] = True
        state[i, : len(values)] = values[:max_state_dim]
    state_valid = (state != np.float32(sentinel)) & np.isfinite(state)
    samples = torch.from_numpy(padded).to(device)
    return ModelInput(
        uv=samples[..., :2],
        value=samples[..., 2:3],
        age=samples[..., 3],
        valid=torch.from_numpy(valid).to(device),
        state=torch.from_numpy(np.where(state_valid, state, 0)).to(device),
        state_valid=torch.from_numpy(state_valid).to(device),
        height=height,
        width=width,
    )


def _with_ages(samples: Float32, history: Sequence[tuple[int, Float32]]) -> Float32:
    """(N, 4): u, v, value, age."""
    sets = [(0, samples), *history]
    return np.concatenate(
        [np.column_stack([s, np.full(len(s), age, np.float32)]) for age, s in sets]
    ).astype(np.float32)
