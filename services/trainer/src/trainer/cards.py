"""What the manifest of a checkpoint says of its training and its data."""

from __future__ import annotations

from pydantic import JsonValue

from sgaps.manifest import DataCard
from sgaps.settings import Settings
from trainer.split import Split

MOST_SESSIONS_NAMED = 60_000
"""Of sessions that may be gone: half of what a manifest has room for."""


def training_card(settings: Settings) -> dict[str, JsonValue]:
    """For the manifest: all that shaped the weights. To the seed a run adds its parent's number."""
    return {
        **settings.training.model_dump(mode="json"),
        "augmentation": settings.augmentation.model_dump(mode="json"),
        "loss": settings.loss.model_dump(mode="json"),
        "sampling": settings.sampling.model_dump(mode="json"),
        "atlas": settings.atlas.model_dump(mode="json"),
        "sentinel_value": settings.sentinel_value,
    }


def data_card(split: Split, inherited: frozenset[str]) -> DataCard:
    """`inherited` are the sessions that weights or pictures of before come from."""
    everything = [*split.train, *split.val]
    named = inherited | set(split.train_sessions)
    if len(named) > MOST_SESSIONS_NAMED:  # what is gone from the disk cannot be held out
        named = frozenset(split.train_sessions)
    return DataCard(
        frames=sum(segment.frame_count for segment in everything),
        train_sessions=tuple(sorted(named)),
        val_sessions=split.val_sessions,
    )
