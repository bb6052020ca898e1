"""A neural reconstructor that is small, and a frame for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reconstructor.frame import FrameInput
from reconstructor.neural import NeuralReconstructor
from sgaps.metrics.reconstructor import CHECKPOINT_REFUSED
from sgaps.model import CheckpointStore
from sgaps.settings import Settings, load_settings
from toy_models import HEIGHT, WIDTH, picture, samples_of


def settings_of(root: Path, *overrides: str) -> Settings:
    return load_settings(
        [
            f"data.checkpoints_dir={root / 'own'}",
            f"data.shipped_dir={root / 'shipped'}",
            *("model.embed_dim=24", "model.num_heads=2", "model.ffn_dim=32"),
            *("model.refine_channels=8", "model.coarse_channels=[8]"),
            *overrides,
        ],
        environment={},
    )


def neural(root: Path, *overrides: str) -> NeuralReconstructor:
    stores = (CheckpointStore(root / "own"), CheckpointStore(root / "shipped"))
    return NeuralReconstructor(stores, settings_of(root, *overrides))


def frame(
    key: str = "doom",
    *,
    seed: int = 0,
    count: int = 40,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    history: bool = False,
) -> FrameInput:
    samples = samples_of(picture(seed, *size), count)
    return FrameInput(
        checkpoint_key=key,
        samples=samples,
        state=np.array([3.0, -999.0, np.nan], np.float32),
        width=size[0],
        height=size[1],
        history=((1, samples_of(picture(seed + 1, *size), count)),) if history else (),
    )


def refused() -> dict[str, float]:
    """What the metric tells, by key."""
    (family,) = CHECKPOINT_REFUSED.collect()
    return {sample.labels["checkpoint_key"]: sample.value for sample in family.samples}


def versions_of(reconstructor: NeuralReconstructor, *keys: str) -> list[str]:
    """What serves a frame of each key, one frame after the other."""
    return [reconstructor.reconstruct([frame(key)])[0].model_version for key in keys]
