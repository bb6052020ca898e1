"""The classical baselines: OpenCV's Telea (2004) and Navier-Stokes (Bertalmio et al. 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from reconstructor.frame import FrameInput, Reconstruction

METHODS = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}


class InpaintReconstructor:
    """Fills what lies between the samples; knows no doubt.

    Takes the mean of a square for its middle pixel.
    """

    def __init__(
        self,
        method: Literal["telea", "navier_stokes"],
        *,
        radius_px: int,
        grid_stride: int,
        frames_at_once: int,
    ) -> None:
        self.frames_at_once = frames_at_once
        self._method = method
        self._radius_px = radius_px
        self._stride = grid_stride

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        return [self._fill(frame) for frame in frames]

    def _fill(self, frame: FrameInput) -> Reconstruction:
        image = np.zeros((frame.height, frame.width), np.uint8)
        unknown = np.ones(image.shape, np.uint8)
        u, v, value, _ = frame.samples.T
        x = np.minimum((u * frame.width).astype(np.intp), frame.width - 1)
        y = np.minimum((v * frame.height).astype(np.intp), frame.height - 1)
        image[y, x], unknown[y, x] = np.round(value * 255).astype(np.uint8), 0
        filled = cv2.inpaint(image, unknown, self._radius_px, METHODS[self._method])
        grid = (-(-frame.height // self._stride), -(-frame.width // self._stride))
        return Reconstruction(
            image=np.asarray(filled, dtype=np.uint8),
            grid=grid,
            entropy=None,
            log_error=None,
            predicted_psnr_db=None,
            model_version=self._method,
        )

    def is_at_hand(self, key: str) -> bool:
        return True

    def serving(self) -> dict[str, str]:
        return {"default": self._method}

    def refresh(self) -> int:
        return 0

    def warm_up(self) -> None:
        return
