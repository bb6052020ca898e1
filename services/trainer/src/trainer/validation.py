"""How good a model is on held-out sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.blend import Rebuilt, with_atlas
from sgaps.model import SparsePixelTransformer
from sgaps.settings import Settings
from trainer.batch import Batch, make_batch
from trainer.dataset import Example, RecordingDataset
from trainer.losses import means_at
from trainer.pictures import gray

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
    without any.
    """
    model.eval()
    by_session: dict[str, list[float]] = defaultdict(list)
    for index in spread(len(dataset), max_examples):
        example = dataset[index]
        if not states:
            example = replace(example, state=np.empty(0, np.float32))
        by_session[example.session_id].append(frame_psnr_db(model, example, settings, atlas))
    return float(np.mean([np.mean(values) for values in by_session.values()]))


@torch.inference_mode()
def frame_psnr_db(
    model: SparsePixelTransformer, example: Example, settings: Settings, atlas: Atlas | None
) -> float:
    """PSNR of one frame, as it is served."""
    batch = make_batch([example], settings, next(model.parameters()).device)
    output = model(batch.inputs)
    frame = output.frame
    if atlas:
        log_error = output.log_error[0].float().cpu().numpy()
        rebuilt = Rebuilt(gray(frame[0, 0].cpu().numpy()), log_error)
        sentinel = settings.sentinel_value
        rebuilt = with_atlas(
            atlas, rebuilt, samples=example.samples, state=example.state, sentinel=sentinel
        )
        frame = torch.from_numpy(rebuilt.frame).to(frame).div(255)[None, None]
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
