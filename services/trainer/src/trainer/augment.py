"""Frames as other games, cameras and clients would have sent them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.settings import AugmentationSettings
from trainer.pictures import Picture

Float32 = NDArray[np.float32]

SMALLEST_SCALE = 0.5
JPEG_QUALITIES = (30, 90)


class AugmentationPipeline:
    """Every change is drawn anew for each example; with all shares at 0 nothing changes."""

    def __init__(self, settings: AugmentationSettings, *, sentinel: float) -> None:
        self._settings = settings
        self._sentinel = sentinel

    def scale(self, rng: np.random.Generator) -> float:
        """Of both sides, for a whole batch: its frames must have one resolution."""
        if rng.random() >= self._settings.scale_share:
            return 1.0
        return float(rng.uniform(SMALLEST_SCALE, 1))

    def flips(self, rng: np.random.Generator) -> bool:
        """Whether an example is seen in a mirror."""
        return bool(rng.random() < self._settings.flip_share)

    def truths(self, pictures: Sequence[Picture], *, scale: float, flip: bool) -> list[Picture]:
        """The frames of one session, (H, W) each, smaller or mirrored: another true session."""
        height, width = pictures[0].shape
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        scaled = [
            picture if scale == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            for picture in pictures
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

    def state(self, state: Float32, rng: np.random.Generator, *, flip: bool) -> Float32:
        """A state vector (S,) without some values; without all in a mirror, where a pose lies."""
        missing = rng.random(len(state)) < (1.0 if flip else self._settings.state_drop_share)
        return np.where(missing, np.float32(self._sentinel), state).astype(np.float32)
