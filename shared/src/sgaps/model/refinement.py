"""From query features and the prior to every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RESIDUAL_GAIN = 0.3
"""Every step of Adam moves the last layer's hundreds of weights alike: without a gain below one the
first steps would swing whole frames."""


class RefinementHead(nn.Module):
    """Numbers for every pixel, which begin as zero.

    Works on blocks of half a query's cell, folded into channels, which costs a fraction of
    convolutions at full resolution.
    """

    def __init__(
        self,
        dim: int,
        stride: int,
        *,
        channels_in: int,
        channels_out: int,
        width: int,
        coarse_widths: Sequence[int],
    ) -> None:
        super().__init__()
        halving = 2 if stride % 2 == 0 else 1
        self.fold = stride // halving
        self.expand = nn.Sequential(
            nn.Conv2d(dim, width // 2 * halving**2, 1), nn.PixelShuffle(halving)
        )
        self.mix = _convolution(width // 2 + channels_in * self.fold**2, width)
        self.coarse = CoarseScales(width, coarse_widths)
        self.refine = _convolution(width, width)
        # Without a bias: it would first of all learn to swing the brightness of whole frames.
        self.last = nn.Conv2d(width, channels_out * self.fold**2, 3, padding=1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, queries: Tensor, picture: Tensor) -> Tensor:
        """queries (B, D, gh, gw), picture (B, channels_in, gh * stride, gw * stride).

        → (B, channels_out, gh * stride, gw * stride).
        """
        folded = F.pixel_unshuffle(picture, self.fold)
        joined = torch.cat([self.expand(queries), folded], dim=1)
        features = self.mix(joined.contiguous(memory_format=torch.channels_last))
        features = self.coarse(features)
        features = features + self.refine(features)
        details: Tensor = RESIDUAL_GAIN * F.pixel_shuffle(self.last(features), self.fold)
        return details


class CoarseScales(nn.Module):
    """What blocks hear of what lies around them: a U-Net (Ronneberger et al. 2015) that begins as
    nothing. Each scale has half the rows and columns of the one before.

    Here is room to know a level by heart: few cells, so many channels cost little time.
    """

    def __init__(self, width: int, widths: Sequence[int]) -> None:
        """Of features of `width` channels, with as many scales as there are `widths`."""
        super().__init__()
        pairs = list(pairwise([width, *widths]))
        self.down = nn.ModuleList(_convolution(fine, coarse, stride=2) for fine, coarse in pairs)
        self.seen = nn.ModuleList(_convolution(coarse, coarse) for _, coarse in pairs)
        self.said = nn.ModuleList(_convolution(coarse, coarse) for _, coarse in pairs[:-1])
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        for parameter in self.up[:1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, rows, columns) → the same."""
        finer = []
        for down, seen in zip(self.down, self.seen, strict=True):
            finer.append(features)
            features = down(features)
            features = features + seen(features)
        for scale in reversed(range(len(finer))):
            if scale < len(self.said):  # the coarsest has only just been seen
                features = features + self.said[scale](features)
            fine, told = finer[scale], self.up[scale](features)
            features = fine + F.interpolate(told, size=fine.shape[-2:], mode="bilinear")
        return features


class WholeNorm(nn.GroupNorm):
    """GroupNorm of every frame as a whole.

    On a GPU in steps: torch's kernel gives each frame to one of its processors.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        if features.device.type == "cpu":
            return super().forward(features)
        return self.in_steps(features)

    def in_steps(self, features: Tensor) -> Tensor:
        """The same by other kernels."""
        exact = features.float()
        variance, mean = torch.var_mean(exact, (1, 2, 3), correction=0, keepdim=True)
        normed = (exact - mean) * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias[:, None, None], normed, self.weight[:, None, None])


def _convolution(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, stride=stride)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, WholeNorm(1, channels_out), nn.GELU())
