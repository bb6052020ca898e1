"""Loss terms. Each is a mean, so that weights mean the same at every resolution."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from pytorch_msssim import ssim
from torch import Tensor, nn
from torch.nn import functional as F

from sgaps.model import ModelOutput
from sgaps.model.prior import FOOTPRINT_LEVELS
from sgaps.settings import LossSettings
from trainer.batch import Batch
from trainer.perceptual import SMALLEST_SIDE_PX, PerceptualLoss

ERROR_FLOOR = 1.0 / 255
"""Half a grey level either way is as good as exact; it also keeps the logarithm finite."""
ROUNDING_ERROR = ERROR_FLOOR / math.sqrt(12)
"""Of a frame, whose levels are bytes: nobody is told of more than 59 dB."""
SMALLEST_SSIM_PX = 11
"""The window of SSIM, which has to fit into a frame."""

Terms: TypeAlias = dict[str, Tensor]
PERCEPTUAL_WINDOW_PX = 128
"""Side of the window that a step compares as the eye does: a whole frame of 320x240 takes a CPU
four times as long as all else of the step."""
EYE_TERMS = ("structural", "perceptual")
"""Of single whole frames, and no squared errors."""


class SampledPixelL2Loss(nn.Module):
    """Squared error at known pixels that the input lacked."""

    def forward(self, frame: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """frame (B, 1, H, W), points (B, M, 4) u v value footprint, valid (B, M) → scalar."""
        error = means_at(frame, points) - points[..., 2]  # (B, M)
        weight = valid.float()
        return (error.square() * weight).sum() / weight.sum().clamp(min=1)


class StructuralLoss(nn.Module):
    """1 - SSIM (Wang et al. 2004), by pytorch-msssim."""

    def forward(self, frame: Tensor, target: Tensor) -> Tensor:
        """(B, 1, H, W) twice, in 0..1 → scalar."""
        similarity: Tensor = ssim(frame, target, data_range=1.0)
        return 1 - similarity


class TemporalLoss(nn.Module):
    """Squared error of the change between two frames: flicker is change that is not true."""

    def forward(self, frame: Tensor, target: Tensor, pairs: Tensor) -> Tensor:
        """frame and target (B, 1, H, W), pairs (P, 2) of rows, now and before → scalar."""
        error = frame - target
        now, before = pairs.unbind(1)
        return (error[now] - error[before]).square().mean()


class ReconstructionLoss(nn.Module):
    """The weighted sum of all terms; in training, how a frame looks is told from a window of it.

    Building it raises PerceptualUnavailable where that term counts and its weights are missing.
    """

    def __init__(self, weights: LossSettings) -> None:
        super().__init__()
        self.weights = weights
        self._sampled = SampledPixelL2Loss()
        self._structural = StructuralLoss()
        self._temporal = TemporalLoss()
        self._perceptual = PerceptualLoss() if weights.perceptual else None

    def forward(self, output: ModelOutput, batch: Batch) -> tuple[Tensor, Terms]:
        """The loss to minimise, and its unweighted terms."""
        terms: Terms = {}
        if batch.target is None:
            terms["sampled"] = self._sampled(output.frame, batch.held_out, batch.held_out_valid)
        else:
            terms["full"] = log_mse_loss(output.frame, batch.target)
            terms["log_error"] = log_error_loss(output, batch.target)
            smallest_px = min(batch.target.shape[-2:])
            if self.weights.structural and smallest_px >= SMALLEST_SSIM_PX:
                terms["structural"] = self._structural(output.frame, batch.target)
            if len(batch.pairs):
                terms["temporal"] = self._temporal(output.frame, batch.target, batch.pairs)
            if self._perceptual and smallest_px >= SMALLEST_SIDE_PX:
                looked_at = (output.frame, batch.target)
                if self.training:
                    looked_at = _window(*looked_at)
                terms["perceptual"] = self._perceptual(*looked_at)
        weighted = [getattr(self.weights, name) * term for name, term in terms.items()]
        return torch.stack(weighted).sum(), terms


def _window(frame: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same window, somewhere, of all frames (B, 1, H, W) and their targets."""
    sides = [min(side, PERCEPTUAL_WINDOW_PX) for side in frame.shape[-2:]]
    firsts = [
        int(torch.randint(whole - side + 1, ()))
        for whole, side in zip(frame.shape[-2:], sides, strict=True)
    ]
    rows, columns = (slice(first, first + side) for first, side in zip(firsts, sides, strict=True))
    return frame[..., rows, columns], target[..., rows, columns]


def means_at(frame: Tensor, points: Tensor) -> Tensor:
    """Means of frame (B, 1, H, W) over the footprints of points (B, M, 4) → (B, M)."""
    height, width = frame.shape[-2:]
    means = torch.zeros_like(points[..., 0])
    for level in range(FOOTPRINT_LEVELS):
        side = 2**level
        # In pixels of this level, whose last row or column may lie partly outside the frame.
        at = points[..., :2] * frame.new_tensor([width, height]) / side
        if level:
            frame = F.avg_pool2d(frame, 2, ceil_mode=True, count_include_pad=False)
        rows, columns = frame.shape[-2:]
        # u = 1 is in the last pixel.
        x, y = at[..., 0].long().clamp(max=columns - 1), at[..., 1].long().clamp(max=rows - 1)
        picked = frame.flatten(1).gather(1, y * columns + x)  # (B, M)
        means = torch.where(points[..., 3] == side, picked, means)
    return means


def log_mse_loss(frame: Tensor, target: Tensor) -> Tensor:
    """Mean over frames of the log of their squared error: what PSNR measures.

    Plain squared error would learn from the few hardest frames of a batch alone.
    """
    squared = (frame - target).square().flatten(1).mean(1)  # (B,)
    return (squared + ERROR_FLOOR**2).log().mean()


def log_error_loss(output: ModelOutput, target: Tensor) -> Tensor:
    """Squared error of the predicted log RMS error: of the cells among each other, and of frames.

    Cells teach where a frame is worse, frames how bad it is: the best logarithms of single cells
    are together too low for their mean, of which the PSNR is told (log E[x] > E[log x]).
    """
    with torch.no_grad():
        rows, columns = output.log_error.shape[-2:]
        squared = (output.frame - target).square()  # (B, 1, H, W)
        cells = F.adaptive_avg_pool2d(squared, (rows, columns)) + ERROR_FLOOR**2
        truth = 0.5 * cells.log()[:, 0]  # (B, gh, gw)
        true_frames = 0.5 * (squared.mean((1, 2, 3)) + ROUNDING_ERROR**2).log()  # (B,)
    told = output.log_error
    level, true_level = (log.mean((1, 2), keepdim=True) for log in (told, truth))
    # All cells rise and fall together: else the highest one alone would take up what is missing.
    above = (_log_rms(told) - level.flatten()).detach()  # (B,)
    shape = F.mse_loss(told - level, truth - true_level)
    return shape + F.mse_loss(level.flatten() + above, true_frames)


def _log_rms(log_error: Tensor) -> Tensor:
    """Log RMS errors of cells (B, gh, gw) → of whole frames (B,)."""
    cells = 2 * log_error.flatten(1)
    return 0.5 * (cells.logsumexp(1) - math.log(cells.shape[1]))
