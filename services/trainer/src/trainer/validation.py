"""How good a model is on held-out sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from sgaps.atlas.atlas import Atlas
from sgaps.errors import SgapsError
from sgaps.model import SparsePixelTransformer
from sgaps.settings import Settings
from trainer.batch import Batch
from trainer.dataset import RecordingDataset
from trainer.losses import means_at
from trainer.rebuild import rebuilt

MSE_FLOOR = 1e-10


def psnr_db(mean_squared_error: float) -> float:
    """PSNR of values in 0..1."""
    return float(-10 * np.log10(max(mean_squared_error, MSE_FLOOR)))


def validate(
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    *,
    max_examples: int,
    states: bool = True,
    atlas: Atlas | None = None,
) -> float:
    """Mean PSNR in dB: over the frames of each session, then over the sessions.

    On whole frames where the dataset has them, else on the held-out samples; with their states or
    without any. Raises SgapsError where there are neither.
    """
    if not len(dataset):
        raise SgapsError(
            "no held-out frame is whole or has two samples: record more, or name other sessions "
            "with data.val=[…]"
        )
    model.eval()
    by_session: dict[str, list[float]] = defaultdict(list)
    for index in spread(len(dataset), max_examples):
        example = dataset[index]
        if not states:
            example = replace(example, state=np.empty(0, np.float32))
        batch, output = rebuilt(model, example, settings, atlas=atlas)
        by_session[example.session_id].append(frame_psnr_db(output.frame, batch))
    return float(np.mean([np.mean(values) for values in by_session.values()]))


def frame_psnr_db(frame: Tensor, batch: Batch) -> float:
    """PSNR of one frame (1, 1, H, W), as far as its truth is known."""
    return psnr_db(float(squared_error(frame, batch).mean()))


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
