"""How far to trust what is recalled, learned from play of the same level.

What moves, flickers or was painted differs from level to level, and so does what it looks like to
the samples. A small network sees what tells of either guess, and corrects the odds between them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgaps.atlas.pictures import Float32
from sgaps.errors import CheckpointRejected

FEATURES = 9
CHANNELS = 32
MOST_SURE = 8.0
"""Of log odds: nothing is certain."""
LARGEST_WEIGHT = 1e3
"""Far beyond what teaching gives; far below what overflows."""


class Trust(nn.Module):
    """Corrects log odds, at first by nothing. Its cells are small pixels of the atlas."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # an untaught one is always the same
            torch.manual_seed(0)
            self.correction = nn.Sequential(
                nn.Conv2d(FEATURES, CHANNELS, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                nn.SiLU(),
            )
            self.last = nn.Conv2d(CHANNELS, 1, 3, padding=1)
        for weights in self.last.parameters():
            nn.init.zeros_(weights)

    def forward(self, features: Tensor, log_odds: Tensor) -> Tensor:
        """Features (B, FEATURES, h, w), log odds (B, h, w) → the share of the atlas (B, h, w)."""
        corrected = log_odds + self.last(self.correction(features)).squeeze(1)
        return torch.sigmoid(corrected.clamp(-MOST_SURE, MOST_SURE))

    @torch.inference_mode()
    def share(self, features: Float32, log_odds: Float32) -> Float32:
        """The same for one frame: (FEATURES, h, w), (h, w) → (h, w)."""
        both = (torch.from_numpy(x).unsqueeze(0) for x in (features, log_odds))
        return np.asarray(self(*both)[0].numpy(), np.float32)


def to_tensors(trust: Trust) -> dict[str, NDArray[np.float32]]:
    """Its weights by name."""
    return {name: tensor.numpy() for name, tensor in trust.state_dict().items()}


def from_tensors(tensors: dict[str, NDArray[np.generic]]) -> Trust:
    """Of weights by name; untaught where there are none. Raises CheckpointRejected."""
    trust = Trust()
    if not tensors:
        return trust
    for name, wanted in trust.state_dict().items():
        told = tensors.get(name)
        if told is None or told.dtype != np.float32 or told.shape != tuple(wanted.shape):
            raise CheckpointRejected(f"the trust in the atlas has no {name} of its shape")
        if not (np.abs(told) <= LARGEST_WEIGHT).all():
            raise CheckpointRejected(f"the trust in the atlas has a {name} beyond all measure")
        wanted.copy_(torch.from_numpy(told))
    return trust
