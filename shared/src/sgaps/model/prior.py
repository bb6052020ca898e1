"""Pull-push interpolation (Gortler et al. 1996): the picture one has without learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sgaps.sampling.footprints import MAX_FOOTPRINT_PX

MID_GRAY = 0.5
CONFIDENCE_DECAY = 0.5
"""Confidence per pyramid level that a value had to come from."""
FOOTPRINT_LEVELS = MAX_FOOTPRINT_PX.bit_length()
"""A mean over 2**l pixels is known at level l of the pyramid."""


@dataclass(frozen=True)
class Level:
    """What is known of the cells of 2**l pixels, l being its place in the pyramid."""

    mean: Tensor
    """(B, C, h, w): mean of the samples in a cell, 0 elsewhere."""
    is_known: Tensor
    """(B, 1, h, w) bool."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The interpolated frame and what is known for certain."""

    frame: Tensor
    """(B, C, H, W)."""
    confidence: Tensor
    """(B, 1, H, W): 1 at a point, halved for each doubling of the footprint or the distance."""
    levels: Sequence[Level]
    """The samples themselves, the finest level first."""

    def rows(self, which: slice, *, channels: slice) -> Prior:
        """Of some of the batch, and some of the channels."""
        return Prior(
            frame=self.frame[which, channels],
            confidence=self.confidence[which],
            levels=[Level(x.mean[which, channels], x.is_known[which]) for x in self.levels],
        )


def pull_push(
    uv: Tensor, value: Tensor, footprint: Tensor, valid: Tensor, *, height: int, width: int
) -> Prior:
    """uv (B, N, 2), value (B, N, C), footprint (B, N) in pixels, valid (B, N) bool.

    A frame without a sample is mid-gray. Any resolution.
    """
    levels = sampled(uv, value, footprint, valid, height=height, width=width)
    known = [_Known(levels[0].mean, levels[0].is_known.to(value.dtype))]
    while max(known[-1].value.shape[-2:]) > 1:
        coarser = known[-1].pulled()
        known.append(coarser.replaced(levels[len(known)]) if len(known) < len(levels) else coarser)
    coarsest = known.pop()
    everywhere = torch.where(coarsest.weight > 0, coarsest.value, MID_GRAY)
    filled = torch.cat([everywhere, coarsest.weight], dim=1)
    decay = torch.ones_like(filled[:1, :, :1, :1])
    decay[:, -1:] = CONFIDENCE_DECAY
    while known:
        filled = known.pop().pushed(decay * filled)
    return Prior(frame=filled[:, :-1], confidence=filled[:, -1:], levels=levels)


def consistent(frame: Tensor, levels: Sequence[Level]) -> Tensor:
    """The frame (B, C, H, W) nearest to the given one whose cells have the means that were sampled.

    The true frame has them too, so this takes it no farther from the truth.
    """
    pyramid = [frame]
    for _ in levels[1:]:
        pyramid.append(_halve(pyramid[-1]))
    correction = torch.zeros_like(pyramid[-1])
    for level, mean in zip(reversed(levels), reversed(pyramid), strict=True):
        size = (mean.shape[-2], mean.shape[-1])
        if correction.shape[-2:] != size:
            correction = _doubled(correction, size)
        correction = torch.where(level.is_known, level.mean - mean, correction)
    return frame + correction


def newest_in_cell(
    uv: Tensor, footprint: Tensor, age: Tensor, valid: Tensor, *, height: int, width: int
) -> Tensor:
    """(B, N) bool: which samples are the newest of their cell. age (B, N)."""
    cell, count = _cells(uv, footprint, height=height, width=width)
    aged = torch.where(valid, age, torch.inf)
    newest = age.new_full((age.shape[0], count), torch.inf)
    newest = newest.scatter_reduce(1, cell, aged, "amin")
    return valid & (age <= newest.gather(1, cell))


@dataclass(frozen=True)
class _Known:
    """One level of the pyramid on its way up: values (B, C, h, w), weights (B, 1, h, w)."""

    value: Tensor
    weight: Tensor

    def pulled(self) -> _Known:
        """One level coarser: the weighted mean of what is known in 2 x 2."""
        mass = _halve(self.weight)
        mean = _halve(self.value * self.weight) / mass.clamp(min=1e-6)
        return _Known(mean, (4 * mass).clamp(max=1))

    def replaced(self, level: Level) -> _Known:
        """A sampled mean of the whole cell is better than a mean of some of its pixels."""
        return _Known(
            torch.where(level.is_known, level.mean, self.value),
            torch.where(level.is_known, 1.0, self.weight),
        )

    def pushed(self, coarser: Tensor) -> Tensor:
        """What is known stays, the rest comes from the coarser level: (B, C + 1, h, w).

        Smoothed, because a single sample of a rough texture says little of its neighbours: 0.17 dB.
        """
        size = (self.value.shape[-2], self.value.shape[-1])
        filled = F.interpolate(coarser, size=size, mode="bilinear", align_corners=False)
        filled = _smoothed(filled)
        sharp = torch.cat([self.value, self.weight], dim=1)
        return torch.lerp(filled, sharp, self.weight.expand_as(sharp))


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of each level that may hold samples."""
    return [(-(-height // 2**n), -(-width // 2**n)) for n in range(FOOTPRINT_LEVELS)]


def _cells(uv: Tensor, footprint: Tensor, *, height: int, width: int) -> tuple[Tensor, int]:
    """(B, N): the cell of a sample, counted through all levels; and how many there are."""
    # Counted on the device: a table from the host would make a GPU wait.
    sides = 2 ** torch.arange(FOOTPRINT_LEVELS, device=uv.device)  # (levels,)
    counts = _in_cells(height, sides) * _in_cells(width, sides)
    level = footprint.log2().round().long().clamp(0, FOOTPRINT_LEVELS - 1)  # (B, N)
    side = sides[level]
    height_cells, width_cells = _in_cells(height, side), _in_cells(width, side)
    x = (uv[..., 0] * width / side).long().clamp(min=0).minimum(width_cells - 1)
    y = (uv[..., 1] * height / side).long().clamp(min=0).minimum(height_cells - 1)
    first = counts.cumsum(0) - counts
    count = sum(rows * columns for rows, columns in _sizes(height, width))
    return first[level] + y * width_cells + x, count


def _in_cells(length: int, side: Tensor) -> Tensor:
    """How many cells of a side it takes."""
    return (side + length - 1).div(side, rounding_mode="floor")


def sampled(
    uv: Tensor, value: Tensor, footprint: Tensor, valid: Tensor, *, height: int, width: int
) -> list[Level]:
    """The samples as means of cells, the finest level first; arguments as of `pull_push`."""
    batch, _, channels = value.shape
    cell, count = _cells(uv, footprint, height=height, width=width)
    counted = valid.to(value.dtype).unsqueeze(1)  # (B, 1, N)
    amounts = torch.cat([value.transpose(1, 2) * counted, counted], dim=1)  # (B, C + 1, N)
    index = cell.unsqueeze(1).expand_as(amounts)
    total = value.new_zeros(batch, channels + 1, count).scatter_add(2, index, amounts)
    weight = total[:, -1:]
    mean = total[:, :-1] / weight.clamp(min=1)
    is_known = weight > 0
    levels, start = [], 0
    for rows, columns in _sizes(height, width):
        cells = slice(start, start + rows * columns)
        shape = (batch, -1, rows, columns)
        levels.append(Level(mean[..., cells].reshape(shape), is_known[..., cells].reshape(shape)))
        start += rows * columns
    return levels


def _smoothed(picture: Tensor) -> Tensor:
    """Mean of each value and its eight neighbours: (B, C, h, w)."""
    if picture.device.type == "cpu":
        return sliding_mean(sliding_mean(picture, dim=-1), dim=-2)
    return F.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)


def sliding_mean(picture: Tensor, *, dim: int) -> Tensor:
    """Mean of each value and its neighbours along a dimension.

    Along both, it is avg_pool2d over 3 x 3 without padding, in a fifth of its time on a CPU.
    """
    length = picture.shape[dim]
    if length == 1:
        return picture
    total = picture.clone()
    total.narrow(dim, 1, length - 1).add_(picture.narrow(dim, 0, length - 1))
    total.narrow(dim, 0, length - 1).add_(picture.narrow(dim, 1, length - 1))
    share = picture.new_full((length,), 1 / 3)
    share[0] = share[-1] = 1 / 2
    return total * share.view([-1 if d == dim % picture.ndim else 1 for d in range(picture.ndim)])


def _halve(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 2, ceil_mode=True, count_include_pad=False)


def _doubled(picture: Tensor, size: tuple[int, int]) -> Tensor:
    whole = F.interpolate(picture, scale_factor=2, mode="nearest")
    return whole[..., : size[0], : size[1]]
