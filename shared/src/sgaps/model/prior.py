"""Pull-push interpolation (Gortler et al. 1996): the picture one has without learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MID_GRAY = 0.5
CONFIDENCE_DECAY = 0.5
"""Confidence per pyramid level that a value had to come from."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The interpolated frame and what is known for certain."""

    frame: Tensor
    """(B, C, H, W)."""
    confidence: Tensor
    """(B, 1, H, W): 1 at a sample, halved for each doubling of the distance to one."""
    sampled: Tensor
    """(B, C, H, W): mean of the samples in a pixel, 0 elsewhere."""
    is_sampled: Tensor
    """(B, 1, H, W) bool."""


def pull_push(uv: Tensor, value: Tensor, valid: Tensor, *, height: int, width: int) -> Prior:
    """uv (B, N, 2), value (B, N, C) in 0..1, valid (B, N) bool. Any resolution.

    A frame without a sample is mid-gray.
    """
    total, weight = _splat(uv, value, valid, height=height, width=width)
    is_sampled = weight > 0  # (B, 1, H, W)
    sampled = total / weight.clamp(min=1)
    levels = [(sampled, is_sampled.to(value.dtype))]
    while max(levels[-1][0].shape[-2:]) > 1:
        levels.append(_pull(*levels[-1]))
    coarsest, known = levels.pop()
    frame = torch.where(known > 0, coarsest, MID_GRAY)
    confidence = known
    while levels:
        sharp, known = levels.pop()
        frame = _push(sharp, known, frame)
        confidence = _push(known, known, CONFIDENCE_DECAY * confidence)
    return Prior(frame=frame, confidence=confidence, sampled=sampled, is_sampled=is_sampled)


def _splat(
    uv: Tensor, value: Tensor, valid: Tensor, *, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Sums (B, C, H, W) and counts (B, 1, H, W) of the samples in each pixel."""
    batch, _, channels = value.shape
    x = (uv[..., 0] * width).long().clamp(0, width - 1)
    y = (uv[..., 1] * height).long().clamp(0, height - 1)
    index = (y * width + x).unsqueeze(1)  # (B, 1, N)
    counted = valid.to(value.dtype).unsqueeze(1)  # (B, 1, N)
    weight = value.new_zeros(batch, 1, height * width).scatter_add(2, index, counted)
    total = value.new_zeros(batch, channels, height * width).scatter_add(
        2, index.expand(-1, channels, -1), value.transpose(1, 2) * counted
    )
    return total.view(batch, channels, height, width), weight.view(batch, 1, height, width)


def _pull(value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """One level coarser: the weighted mean of what is known in 2 x 2."""
    mass = _halve(weight)
    mean = _halve(value * weight) / mass.clamp(min=1e-6)
    return mean, (4 * mass).clamp(max=1)


def _halve(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 2, ceil_mode=True, count_include_pad=False)


def _push(value: Tensor, weight: Tensor, coarse: Tensor) -> Tensor:
    """One level finer: what is known stays, the rest comes from the coarser level.

    Smoothed, because a single sample of a rough texture says little of its neighbours: 0.17 dB.
    """
    size = (value.shape[-2], value.shape[-1])
    filled = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    filled = F.avg_pool2d(filled, 3, stride=1, padding=1, count_include_pad=False)
    return torch.lerp(filled, value, weight.expand_as(value))
