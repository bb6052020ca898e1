"""How good a model is on held-out sessions."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sgaps.atlas.atlas import Atlas
from sgaps.errors import SgapsError
from sgaps.model import ModelOutput, SparsePixelTransformer
from sgaps.settings import Settings
from trainer.batch import Batch
from trainer.dataset import RecordingDataset
from trainer.losses import EYE_TERMS, ROUNDING_ERROR, ReconstructionLoss, means_at
from trainer.rebuild import rebuilt

MSE_FLOOR = 1e-10
DB_PER_NAT = 10 / math.log(10)
"""The loss counts squared errors by their natural logarithm, the PSNR by ten of the common one."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How good a model is on held-out frames: means."""

    psnr_db: float
    score_db: float
    """What decides: the PSNR less what the loss counts to the eye, in dB; where it counts nothing
    (loss.structural and loss.perceptual are 0), the PSNR."""

    def mixed(self, other: HeldOut, share: float) -> HeldOut:
        """With so much (0..1) of the other one."""
        return HeldOut(
            psnr_db=(1 - share) * self.psnr_db + share * other.psnr_db,
            score_db=(1 - share) * self.score_db + share * other.score_db,
        )

    def told_against(self, other: HeldOut) -> str:
        """Both, in words."""
        told = f"{self.psnr_db:.2f} dB against {other.psnr_db:.2f} dB"
        if self.score_db == self.psnr_db:
            return told
        return f"{told}, as the loss counts them {self.score_db:.2f} against {other.score_db:.2f}"


def psnr_db(mean_squared_error: float) -> float:
    """PSNR of values in 0..1."""
    return float(-10 * np.log10(max(mean_squared_error, MSE_FLOOR)))


def validate(
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    *,
    max_examples: int,
    stop: threading.Event,
    states: bool = True,
    atlas: Atlas | None = None,
) -> HeldOut:
    """Means over the frames of each session, then over the sessions.

    On whole frames where the dataset has them, else on the held-out samples; with their states or
    without any. Once told to stop, of what was done until then. Raises SgapsError where there are
    neither, and PerceptualUnavailable.
    """
    if not len(dataset):
        raise SgapsError(
            "no held-out frame is whole or has two samples: record more, or name other sessions "
            "with data.val=[…]"
        )
    model.eval()
    loss = ReconstructionLoss(settings.loss).to(next(model.parameters()).device).eval()
    by_session: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for index in spread(len(dataset), max_examples):
        if stop.is_set() and by_session:
            break
        example = dataset[index]
        if not states:
            example = replace(example, state=np.empty(0, np.float32))
        batch, output = rebuilt(model, example, settings, atlas=atlas)
        psnr = frame_psnr_db(output.frame, batch)
        score = psnr - _cost_to_the_eye_db(loss, output, batch)
        by_session[example.session_id].append((psnr, score))
    means = np.mean([np.mean(values, axis=0) for values in by_session.values()], axis=0)  # (2,)
    return HeldOut(psnr_db=float(means[0]), score_db=float(means[1]))


@torch.inference_mode()
def _cost_to_the_eye_db(loss: ReconstructionLoss, output: ModelOutput, batch: Batch) -> float:
    """So much PSNR the loss would give up for what else it counts of a single whole frame."""
    weights = loss.weights
    if batch.target is None or not (weights.structural or weights.perceptual):
        return 0.0
    _, terms = loss(output, batch)
    cost: float = sum(
        getattr(weights, name) * float(terms[name]) for name in EYE_TERMS if name in terms
    )
    return DB_PER_NAT * cost / (weights.full or 1.0)


def frame_psnr_db(frame: Tensor, batch: Batch) -> float:
    """PSNR of one frame (1, 1, H, W), as far as its truth is known, once it is rounded to bytes.

    Else a black frame, which is right but for noise that nobody is shown, would outweigh others.
    """
    return psnr_db(float(squared_error(frame, batch).mean()) + ROUNDING_ERROR**2)


def squared_error(frame: Tensor, batch: Batch) -> Tensor:
    """Squared errors at every pixel whose truth is known."""
    if batch.target is not None:
        return (frame - batch.target).square()
    error = means_at(frame, batch.held_out) - batch.held_out[..., 2]
    return error[batch.held_out_valid].square()


def spread(length: int, count: int) -> Sequence[int]:
    """At most `count` indices, evenly over the dataset: the same for every model."""
    even = np.linspace(0, length - 1, min(count, length)).astype(int)
    return [int(index) for index in np.unique(even)]
