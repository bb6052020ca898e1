"""A look at a model while it is trained: scores and pictures of held-out frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pytorch_msssim import ssim
from torch import Tensor

from sgaps.model import ModelOutput, SparsePixelTransformer
from sgaps.sampling.footprints import mosaic
from sgaps.sampling.importance import PredictedErrorImportanceCalculator
from sgaps.settings import Settings
from trainer.augment import BatchShape
from trainer.dataset import Example, RecordingDataset, Request
from trainer.losses import SMALLEST_SSIM_PX
from trainer.pictures import Picture, gray, strip
from trainer.rebuild import rebuilt
from trainer.validation import frame_psnr_db, spread

FRAMES = 12
PICTURED_FRAMES = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What was seen."""

    psnr_db: float
    ssim: float | None
    """None where there are no whole frames."""
    strips: tuple[Picture, ...]
    """Truth, samples, reconstruction, error, importance, attention of the middle: in a row."""


def look(model: SparsePixelTransformer, held_out: RecordingDataset, settings: Settings) -> Look:
    """At a few frames, always the same."""
    model.eval()
    psnrs_db: list[float] = []
    similarities: list[float] = []
    strips: list[Picture] = []
    for index in spread(len(held_out), FRAMES):
        example = held_out[index]
        batch, output = rebuilt(model, example, settings, return_attention=True)
        psnrs_db.append(frame_psnr_db(output.frame, batch))
        if batch.target is None or min(example.width, example.height) < SMALLEST_SSIM_PX:
            continue
        similarities.append(float(ssim(output.frame.float(), batch.target, data_range=1.0)))
        if len(strips) < PICTURED_FRAMES:
            strips.append(_strip(example, output, settings))
    return Look(
        psnr_db=float(np.mean(psnrs_db)),
        ssim=float(np.mean(similarities)) if similarities else None,
        strips=tuple(strips),
    )


def efficiency(
    model: SparsePixelTransformer,
    held_out: RecordingDataset,
    settings: Settings,
    counts: Sequence[int],
) -> dict[int, float]:
    """PSNR in dB of single frames by sample count. Empty where there are no whole frames.

    Of fresh samples for every count: what clients sent would be compared with another pattern.
    """
    model.eval()
    if not held_out.has_keyframes:
        return {}
    return {
        count: float(
            np.mean(
                [
                    _psnr_db(model, held_out[_request(index, count)], settings)
                    for index in spread(len(held_out), FRAMES)
                ]
            )
        )
        for count in counts
    }


def _request(index: int, count: int) -> Request:
    return Request(index=index, shape=BatchShape(samples=count), epoch=0, fresh=True)


def _psnr_db(model: SparsePixelTransformer, example: Example, settings: Settings) -> float:
    batch, output = rebuilt(model, example, settings)
    return frame_psnr_db(output.frame, batch)


def _strip(example: Example, output: ModelOutput, settings: Settings) -> Picture:
    if example.target is None or output.attention is None:
        raise ValueError("a strip shows a true frame and the attention")
    importance = PredictedErrorImportanceCalculator(settings.importance.epsilon)(
        output.log_error[0].float().cpu().numpy()
    )
    frame = gray(output.frame[0, 0].float().cpu().numpy())
    pictures = strip(example.target, example.samples, frame, importance)
    return np.hstack([pictures, _attention(example, output.attention[0], output.log_error.shape)])


def _attention(example: Example, attention: Tensor, grid: Sequence[int]) -> Picture:
    """Where the middle cell looks. attention (Q, N), grid (1, gh, gw)."""
    _, rows, columns = grid
    middle = attention[rows // 2 * columns + columns // 2, : len(example.samples)]
    weights = middle.float().cpu().numpy()
    seen = example.samples.copy()
    seen[:, 2] = np.sqrt(weights / max(float(weights.max()), np.finfo(np.float32).tiny))
    return mosaic(seen, example.width, example.height)
