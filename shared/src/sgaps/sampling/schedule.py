"""When a session gets new coordinates."""

from __future__ import annotations

import math
from typing import assert_never

from sgaps.settings import MaskUpdateSettings


class MaskUpdateScheduler:
    """Decides from frame numbers and predicted quality alone; it keeps no state.

    - `fixed`: the first set stays, while frames come: one is forgotten after
      `sgaps.keys.MEMORY_TTL_SECS` without any.
    - `interval`: a new set every `update_interval` frames.
    - `quality`: a new set when the predicted PSNR is below `quality_threshold`, or unknown.
    - `adaptive`: as `quality`, and at the latest every `update_interval` frames.
    """

    def __init__(self, settings: MaskUpdateSettings) -> None:
        self._settings = settings

    def should_update(
        self,
        *,
        frame_id: int,
        last_update_frame_id: int | None,
        predicted_psnr_db: float | None,
    ) -> bool:
        """Whether the answer to this frame is a new set. The first answer always is."""
        if last_update_frame_id is None:
            return True
        is_due = frame_id - last_update_frame_id >= self._settings.update_interval
        is_poor = self._is_poor(predicted_psnr_db)
        match self._settings.strategy:
            case "fixed":
                return False
            case "interval":
                return is_due
            case "quality":
                return is_poor
            case "adaptive":
                return is_due or is_poor
            case never:
                assert_never(never)

    def _is_poor(self, predicted_psnr_db: float | None) -> bool:
        if predicted_psnr_db is None or math.isnan(predicted_psnr_db):
            return True
        return predicted_psnr_db < self._settings.quality_threshold
