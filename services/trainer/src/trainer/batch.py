"""Examples as one batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgaps.model import ModelInput, collate
from sgaps.settings import Settings
from trainer.dataset import Example, Float32


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What goes in, and what should come out."""

    inputs: ModelInput
    target: Tensor | None
    """(B, 1, H, W) in 0..1."""
    held_out: Tensor
    """(B, M, 4): u, v, value, footprint."""
    held_out_valid: Tensor
    """(B, M) bool."""
    pairs: Tensor
    """(P, 2): rows of a frame and of the one before it, both of one session."""


def make_batch(examples: Sequence[Example], settings: Settings, device: torch.device) -> Batch:
    """Pad examples of one resolution to common lengths; the frames before them come last."""
    paired = [i for i, example in enumerate(examples) if example.before]
    pairs = [(i, len(examples) + k) for k, i in enumerate(paired)]
    examples = [*examples, *(example.before for example in examples if example.before)]
    inputs = collate(
        [(e.samples, e.history, e.state) for e in examples],
        width=examples[0].width,
        height=examples[0].height,
        attended_frames=settings.model.attended_frames,
        max_state_dim=settings.model.max_state_dim,
        sentinel=settings.sentinel_value,
    )
    held_out, valid = _pad([e.held_out for e in examples])
    return Batch(
        inputs=(inputs.pinned() if device.type == "cuda" else inputs).on(device),
        target=_targets(examples, device),
        held_out=held_out.to(device),
        held_out_valid=valid.to(device),
        pairs=torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2),
    )


def _targets(examples: Sequence[Example], device: torch.device) -> Tensor | None:
    pictures = [e.target for e in examples if e.target is not None]
    if len(pictures) != len(examples):
        return None
    stacked = torch.from_numpy(np.stack(pictures)).to(device)  # (B, H, W)
    return stacked.float().div(255).unsqueeze(1)


def _pad(
    rows: Sequence[Float32],
) -> tuple[Tensor, Tensor]:
    longest = max(len(row) for row in rows)
    padded = torch.zeros(len(rows), longest, 4)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.from_numpy(row.copy())
        valid[i, : len(row)] = True
    return padded, valid
