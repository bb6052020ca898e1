"""Small models, what they see, and their checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.atlas.atlas import Atlas
from sgaps.manifest import DataCard, Manifest, Metrics
from sgaps.model import CheckpointStore, build_model
from sgaps.sampling.patterns import sample_pattern
from sgaps.settings import ModelSettings

WIDTH, HEIGHT = 36, 28


def small(**changes: int | tuple[int, ...]) -> ModelSettings:
    numbers: dict[str, int | tuple[int, ...]] = {
        "embed_dim": 24,
        "num_heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "ffn_dim": 32,
        "query_stride": 8,
        "color_channels": 1,
        "position_frequencies": 4,
        "state_frequencies": 2,
        "max_state_dim": 5,
        "refine_channels": 4,
        "coarse_channels": (6, 8),
        "history_frames": 2,
        "attended_frames": 1,
    }
    return ModelSettings.model_validate(numbers | changes)


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def samples_of(image: NDArray[np.float32], count: int = 40) -> NDArray[np.float32]:
    height, width = image.shape
    rng = np.random.default_rng(1)
    coords = sample_pattern("jittered_grid", count=count, width=width, height=height, rng=rng)
    x, y = (coords[:, 0] * width).astype(int), (coords[:, 1] * height).astype(int)
    return np.column_stack([coords, image[y, x], np.ones(count)]).astype(np.float32)


def publish(
    root: Path,
    key: str = "doom",
    *,
    seed: int = 0,
    psnr_db: float = 21.0,
    champion_db: float = 20.0,
    color_channels: int = 1,
    parent: str | None = None,
    atlas: Atlas | None = None,
    shape: ModelSettings | None = None,
) -> Manifest:
    """Untrained, and small unless it has another shape."""
    torch.manual_seed(seed)
    settings = shape or small(color_channels=color_channels)
    return CheckpointStore(root).publish(
        key,
        build_model(settings),
        settings=settings,
        metrics=Metrics(val_psnr_db=psnr_db, champion_psnr_db=champion_db),
        parent=parent,
        data=DataCard(frames=10, train_sessions=("a",), val_sessions=("b",)),
        training={"seed": seed},
        atlas=atlas,
    )
