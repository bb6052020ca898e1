"""From what the model says of its doubt to importance: where the next samples should go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


NOTHING_KNOWN: Map = np.ones((1, 1), np.float32)
"""Of a frame that no model has seen yet."""


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
        return _stretched(entropy, self._epsilon)


CONTRAST = 0.3
"""Exponent of an expected error: what a model doubts most is mostly small and moves on, and blocks
that follow it closely are missed elsewhere."""


class PredictedErrorImportanceCalculator:
    """Importance is the RMS error that the model expects, flattened and normalised per frame."""

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon

    def __call__(self, log_error: Map) -> Map:
        """(gh, gw) logs of RMS errors → (gh, gw) importance in 0..1.

        A map that tells nothing (constant, empty, not finite) becomes a uniform one.
        """
        if log_error.size == 0 or not np.isfinite(log_error).all():
            return np.ones(log_error.shape, np.float32)
        # Relative to the highest, for an exponential cannot overflow below one.
        relative = log_error.astype(np.float64) - float(log_error.max())
        return _stretched(np.exp(CONTRAST * relative), self._epsilon)


def _stretched(values: NDArray[np.floating], epsilon: float) -> Map:
    """From 0 at the lowest to 1 at the highest; ones where there is nothing to tell apart."""
    if values.size == 0 or not np.isfinite(values).all():
        return np.ones(values.shape, np.float32)
    low, high = float(values.min()), float(values.max())
    if high - low <= epsilon:
        return np.ones(values.shape, np.float32)
    # In float64: the span of finite float32 numbers can overflow float32.
    return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)


def is_informative(importance: Map) -> bool:
    """Whether a map tells some places from others."""
    if importance.size == 0 or not np.isfinite(importance).all():
        return False
    return bool((importance >= 0).all() and importance.max() > importance.min())


def importance_to_bytes(importance: Map) -> bytes:
    """uint8 (gh, gw), 255 = most important: the form on the wire."""
    return np.round(np.clip(importance, 0, 1) * 255).astype(np.uint8).tobytes()
