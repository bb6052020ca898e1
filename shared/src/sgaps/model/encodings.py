"""How positions, ages and game state become numbers a network can use."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG2_HIGHEST_FREQUENCY = 7.0
"""2**7 half periods across the frame: a period is 10 pixels at 640."""
SHORTEST_STATE_PERIOD = 16.0
STATE_PERIOD_RATIO = 4.0


class ContinuousPositionalEncoding(nn.Module):
    """Sines and cosines of (u, v) at geometric frequencies (Vaswani et al. 2017; NeRF, 2020)."""

    def __init__(self, frequency_count: int) -> None:
        super().__init__()
        powers = torch.linspace(0, LOG2_HIGHEST_FREQUENCY, frequency_count)
        self.register_buffer("frequencies", math.pi * 2**powers, persistent=False)
        self.frequencies: Tensor
        self.dim = 4 * frequency_count

    def forward(self, uv: Tensor) -> Tensor:
        """(..., 2) → (..., dim)."""
        angles = (uv.unsqueeze(-1) * self.frequencies).flatten(-2)  # (..., 2 * F)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class StateVectorEncoder(nn.Module):
    """Raw game values → one vector. What is missing is masked, never fed as a number.

    Each value enters as sign(x) log(1 + |x|) and as Fourier features, which is what lets a model
    tell places of a level apart.
    """

    def __init__(self, state_dim: int, frequency_count: int, embed_dim: int) -> None:
        super().__init__()
        periods = SHORTEST_STATE_PERIOD * STATE_PERIOD_RATIO ** torch.arange(frequency_count)
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.frequencies: Tensor
        self.state_dim = state_dim
        features = state_dim * (2 + 2 * frequency_count)
        self.mlp = nn.Sequential(
            nn.Linear(features, embed_dim), nn.GELU(), nn.Linear(embed_dim, embed_dim)
        )

    def forward(self, state: Tensor, valid: Tensor) -> Tensor:
        """state (B, S), valid (B, S) bool, of any S → (B, embed_dim).

        Values beyond the length the model was built for are not seen.
        """
        lacking = self.state_dim - state.shape[1]
        valid = F.pad(valid, (0, lacking))
        known = torch.where(valid, F.pad(state, (0, lacking)), 0.0)
        angles = known.unsqueeze(-1) * self.frequencies  # (B, S, F)
        size = known.sign() * known.abs().log1p()
        per_value = torch.cat([size.unsqueeze(-1), angles.sin(), angles.cos()], dim=-1)
        masked = per_value * valid.unsqueeze(-1)
        encoded: Tensor = self.mlp(torch.cat([masked.flatten(1), valid.float()], dim=1))
        return encoded
