"""The classical baselines: inpainting by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

from reconstructor.frame import FrameInput, Reconstruction, Unchanging
from sgaps.model.inpaint import inpainted
from sgaps.settings import InpaintingName


class InpaintReconstructor(Unchanging):
    """Fills what lies between the samples; knows no doubt.

    Takes the mean of a square for its middle pixel.
    """

    def __init__(
        self,
        method: InpaintingName,
        *,
        radius_px: int,
        grid_stride: int,
        frames_at_once: int,
    ) -> None:
        super().__init__(version=method, frames_at_once=frames_at_once)
        self._method = method
        self._radius_px = radius_px
        self._stride = grid_stride

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        return [self._fill(frame) for frame in frames]

    def _fill(self, frame: FrameInput) -> Reconstruction:
        image = inpainted(
            frame.samples,
            frame.width,
            frame.height,
            method=self._method,
            radius_px=self._radius_px,
        )
        return Reconstruction(
            image=image,
            grid=(-(-frame.height // self._stride), -(-frame.width // self._stride)),
            entropy=None,
            log_error=None,
            predicted_psnr_db=None,
            model_version=self._method,
        )
