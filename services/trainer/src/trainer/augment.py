"""Frames as other games, cameras and clients would have sent them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.settings import AugmentationSettings
from trainer.pictures import Picture

Float32 = NDArray[np.float32]

SMALLEST_CROP = 0.5
SMALLEST_SCALE = 0.5
JPEG_QUALITIES = (30, 90)


@dataclass(frozen=True, kw_only=True)
class BatchShape:
    """What the examples of one batch have in common."""

    samples: int
    """Per frame, where no session says how many."""
    crop: float = 1.0
    """Of both sides of the frame: how much of them is kept."""
    scale: float = 1.0
    """Of both sides of what is kept."""

    @property
    def is_whole(self) -> bool:
        return self.crop == self.scale == 1


class AugmentationPipeline:
    """Every change is drawn anew for each example; with all shares at 0 nothing changes."""

    def __init__(self, settings: AugmentationSettings, *, sentinel: float) -> None:
        self._settings = settings
        self._sentinel = sentinel

    def shape(self, samples: int, rng: np.random.Generator) -> BatchShape:
        """Of a batch, whose frames must have one resolution. `samples` are of a whole frame."""
        crop = _drawn(self._settings.crop_share, SMALLEST_CROP, rng)
        scale = _drawn(self._settings.scale_share, SMALLEST_SCALE, rng)
        return BatchShape(samples=max(1, round(samples * crop**2)), crop=crop, scale=scale)

    def flips(self, rng: np.random.Generator) -> bool:
        """Whether an example is seen in a mirror."""
        return bool(rng.random() < self._settings.flip_share)

    def truths(
        self,
        pictures: Sequence[Picture],
        shape: BatchShape,
        rng: np.random.Generator,
        *,
        flip: bool,
    ) -> list[Picture]:
        """The frames of one session (H, W), cut, smaller or mirrored: another true session."""
        height, width = (max(1, round(side * shape.crop)) for side in pictures[0].shape)
        top, left = (
            int(rng.integers(whole - part + 1))
            for whole, part in zip(pictures[0].shape, (height, width), strict=True)
        )
        cut = [picture[top : top + height, left : left + width] for picture in pictures]
        size = (max(1, round(width * shape.scale)), max(1, round(height * shape.scale)))
        scaled = [
            picture if shape.scale == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            for picture in cut
        ]
        return [np.asarray(p[:, ::-1] if flip else p, dtype=np.uint8) for p in scaled]

    def seen(self, truth: Picture, rng: np.random.Generator) -> Picture:
        """What a noisy or compressed source shows of a frame (H, W): this is what is sampled."""
        picture = truth
        if self._settings.noise_std:
            std = rng.uniform(0, self._settings.noise_std) * 255
            noisy = picture + rng.normal(0, std, picture.shape)
            picture = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
        if rng.random() < self._settings.compression_share:
            quality = int(rng.integers(*JPEG_QUALITIES))
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        return picture

    def state(self, state: Float32, rng: np.random.Generator, *, lies: bool = False) -> Float32:
        """A state vector (S,) without some values; without all where it lies.

        What it says of a place holds for whole frames only, and in no mirror.
        """
        absent = lies or rng.random() < self._settings.state_absent_share
        missing = rng.random(len(state)) < (1.0 if absent else self._settings.state_drop_share)
        return np.where(missing, np.float32(self._sentinel), state).astype(np.float32)


def _drawn(share: float, smallest: float, rng: np.random.Generator) -> float:
    """Between the smallest and 1 in a share of the cases, else 1."""
    return float(rng.uniform(smallest, 1)) if rng.random() < share else 1.0
