"""From settings to a reconstructor."""

from __future__ import annotations

from reconstructor.frame import Reconstructor
from reconstructor.inpaint import InpaintReconstructor
from reconstructor.neural import NeuralReconstructor
from sgaps.errors import SettingsError
from sgaps.model import stores_of
from sgaps.settings import Settings


def build_reconstructor(settings: Settings) -> Reconstructor:
    """The method that `reconstructor.method` names. Raises SettingsError, NoFreeGpu."""
    method = settings.reconstructor.method
    if method == "spt":
        if settings.model.color_channels != 1:
            raise SettingsError("model.color_channels=3: sessions are gray, so it must be 1")
        return NeuralReconstructor(stores_of(settings.data), settings)
    return InpaintReconstructor(
        method,
        radius_px=settings.reconstructor.inpaint_radius_px,
        grid_stride=settings.model.query_stride,
        frames_at_once=settings.reconstructor.max_batch,
    )
