"""What may be wrong with each frame, and is logged every few seconds only."""

from __future__ import annotations

import logging
import math
from collections import Counter

log = logging.getLogger(__name__)

PAUSE_SECS = 5.0


class Complaints:
    """Warnings; of each kind one in PAUSE_SECS, with how often there was one since the last."""

    def __init__(self) -> None:
        self._untold: Counter[str] = Counter()
        self._next_at_secs: dict[str, float] = {}

    def warn(self, kind: str, told: str, *, now_secs: float) -> None:
        """Log it, or only count it, at a monotonic time."""
        self._untold[kind] += 1
        if now_secs >= self._next_at_secs.get(kind, -math.inf):
            self._next_at_secs[kind] = now_secs + PAUSE_SECS
            count = self._untold.pop(kind)
            log.warning("%s", told if count == 1 else f"{told} ({count} times)")
