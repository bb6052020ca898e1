"""One frame of a recording, rebuilt as it is served."""

from __future__ import annotations

from dataclasses import replace

import torch

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.blend import Rebuilt, with_atlas
from sgaps.model import ModelOutput, SparsePixelTransformer
from sgaps.settings import Settings
from trainer.batch import Batch, make_batch
from trainer.dataset import Example
from trainer.pictures import gray


@torch.inference_mode()
def rebuilt(
    model: SparsePixelTransformer,
    example: Example,
    settings: Settings,
    *,
    atlas: Atlas | None = None,
    return_entropy: bool = False,
    return_attention: bool = False,
) -> tuple[Batch, ModelOutput]:
    """The example as a batch, and what the model and, where there is one, the atlas make of it."""
    batch = make_batch([example], settings, next(model.parameters()).device)
    output = model(batch.inputs, return_entropy=return_entropy, return_attention=return_attention)
    if atlas is None:
        return batch, output
    frame, log_error = output.frame, output.log_error
    better = with_atlas(
        atlas,
        Rebuilt(gray(frame[0, 0].cpu().numpy()), log_error[0].float().cpu().numpy()),
        samples=example.samples,
        state=example.state,
        sentinel=settings.sentinel_value,
    )
    return batch, replace(
        output,
        frame=torch.from_numpy(better.frame).to(frame).div(255)[None, None],
        log_error=torch.from_numpy(better.log_error).to(log_error)[None],
    )
