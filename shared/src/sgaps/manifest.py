"""What is said of a checkpoint beside its weights: its manifest, and the bounds of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from sgaps.atlas.camera import Camera
from sgaps.settings import ModelSettings, PoseLayout, Section

MAX_WEIGHTS_BYTES = 1 << 30
MAX_ATLAS_BYTES = 1 << 28
MAX_ATLAS_PICTURES = 1 << 14
MAX_ATLAS_PIXELS = 1 << 30

_UNSAID = Field(exclude_if=lambda value: value is None)
"""Where it is not there it is not written: an older reader knows no such field."""


class Metrics(Section):
    """Measured on the same held-out sessions."""

    val_psnr_db: float
    champion_psnr_db: float
    """What served before."""
    val_score_db: Annotated[float | None, _UNSAID] = None
    """What decided, where the loss counts more than squared errors: the PSNR less that, in dB."""
    champion_score_db: Annotated[float | None, _UNSAID] = None

    @model_validator(mode="after")
    def _scores_come_in_pairs(self) -> Metrics:
        if (self.val_score_db is None) != (self.champion_score_db is None):
            raise ValueError("val_score_db and champion_score_db come together")
        return self

    @property
    def gain_db(self) -> float:
        """By what decided."""
        if self.val_score_db is None or self.champion_score_db is None:
            return self.val_psnr_db - self.champion_psnr_db
        return self.val_score_db - self.champion_score_db


class DataCard(Section):
    """What a checkpoint was trained and validated on."""

    frames: Annotated[int, Field(ge=0)]
    """Of its own run."""
    train_sessions: tuple[str, ...]
    """Of its own run, and of those whose weights or pictures it has."""
    val_sessions: tuple[str, ...]


class AtlasCard(Section):
    """What the atlas of a checkpoint is, and how to know its file."""

    sha256: str
    bytes: Annotated[int, Field(ge=0, le=MAX_ATLAS_BYTES)]
    pictures: Annotated[int, Field(gt=0, le=MAX_ATLAS_PICTURES)]
    width: Annotated[int, Field(gt=0, le=MAX_ATLAS_PIXELS)]
    height: Annotated[int, Field(gt=0, le=MAX_ATLAS_PIXELS)]
    layout: PoseLayout
    camera: Camera

    @model_validator(mode="after")
    def _fits_into_memory(self) -> AtlasCard:
        if self.pictures * self.width * self.height > MAX_ATLAS_PIXELS:
            raise ValueError(f"an atlas has {MAX_ATLAS_PIXELS} pixels at most")
        return self


class Manifest(Section):
    """All there is to know about a checkpoint but its weights."""

    schema_version: Literal[1] = 1
    checkpoint_key: str
    model_version: str
    created_at: str
    """UTC, ISO 8601."""
    weights_sha256: str
    weights_bytes: Annotated[int, Field(ge=0, le=MAX_WEIGHTS_BYTES)]
    model: ModelSettings
    metrics: Metrics
    parent: str | None
    """What served when it was trained, and was to be replaced. The weights may come from elsewhere:
    of another shape, from the general checkpoint's or from nothing."""
    data: DataCard
    training: dict[str, JsonValue]
    atlas: Annotated[AtlasCard | None, _UNSAID] = None
    """None where it knows no level by heart."""
