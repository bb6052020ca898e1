"""From attention entropy to importance: where the next samples should go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


class AttentionEntropyImportanceCalculator:
    """Importance is the entropy of a query's attention, normalised per frame.

    A query that attends to no sample in particular does not know what belongs there.
    """

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon

    def __call__(self, entropy: Map) -> Map:
        """(gh, gw) entropies → (gh, gw) importance in 0..1.

        A map that tells nothing (constant, empty, not finite) becomes a uniform one.
        """
        if entropy.size == 0 or not np.isfinite(entropy).all():
            return np.ones(entropy.shape, np.float32)
        low, high = float(entropy.min()), float(entropy.max())
        if high - low <= self._epsilon:
            return np.ones(entropy.shape, np.float32)
        # In float64: the span of finite float32 numbers can overflow float32.
        return ((entropy.astype(np.float64) - low) / (high - low)).astype(np.float32)


def importance_to_bytes(importance: Map) -> bytes:
    """uint8 (gh, gw), 255 = most important: the form on the wire."""
    return np.round(np.clip(importance, 0, 1) * 255).astype(np.uint8).tobytes()
