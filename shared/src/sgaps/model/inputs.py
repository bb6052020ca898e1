"""What the model sees of a batch of frames, and in which size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

LEARNED_PIXELS = 320 * 240
"""Of the pictures that the shipped checkpoints learned most from. A larger one is rebuilt in half
its width and height, in a quarter, and so on, and then made to agree with its samples: what the
network knows of shapes is in pixels."""


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One batch of frames of one resolution. The true frame is no part of it."""

    samples: Tensor
    """(B, N, C + 4): what the properties below tell of each sample, in one tensor: a GPU gets it in
    one copy."""
    present: int
    """The samples of this frame come first, in so many columns; then those of the past."""
    attended: int
    """Columns that become tokens. What is older only enters the memory picture."""
    valid: Tensor
    """(B, N) bool; False = padding."""
    padded: bool
    """Whether any column that becomes a token is padding: asked of `valid`, a GPU would be waited
    for."""
    state: Tensor
    """(B, S)."""
    state_valid: Tensor
    """(B, S) bool; False = missing."""
    height: int
    width: int

    @property
    def uv(self) -> Tensor:
        """(B, N, 2)."""
        return self.samples[..., :2]

    @property
    def value(self) -> Tensor:
        """(B, N, C) in 0..1."""
        return self.samples[..., 2:-2]

    @property
    def footprint(self) -> Tensor:
        """(B, N): side in pixels of the square whose mean the value is; 1 = a point."""
        return self.samples[..., -2]

    @property
    def age(self) -> Tensor:
        """(B, N) in frames; 0 = of this frame, more = of the past."""
        return self.samples[..., -1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that lies on a device, by name."""
        tensors = (f for f in fields(self) if isinstance(getattr(self, f.name), Tensor))
        return {f.name: getattr(self, f.name) for f in tensors}

    def on(self, device: torch.device) -> ModelInput:
        """The same on a device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> ModelInput:
        """The same in memory that stays where it is, so that a GPU can fetch it by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> ModelInput:
        return replace(self, **{name: change(tensor) for name, tensor in self.tensors.items()})  # type: ignore[arg-type]


def as_learned(inputs: ModelInput) -> ModelInput:
    """The same samples in a picture of about `LEARNED_PIXELS`, or of fewer as it is.

    A square of the whole picture is one of the smaller; what is less than a pixel there is a point.
    """
    halvings = round(math.log2(inputs.height * inputs.width / LEARNED_PIXELS) / 2)
    if halvings <= 0:
        return inputs
    side = 2**halvings
    samples = inputs.samples.clone()
    samples[..., -2] = inputs.footprint.div(side).clamp(min=1)
    return replace(
        inputs, samples=samples, height=-(-inputs.height // side), width=-(-inputs.width // side)
    )
