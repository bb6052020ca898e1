"""For each session the median picture of the others: what one has who has never seen it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.closed_loop import Frames
from trainer.pictures import Picture

BAND_PIXELS = 2**14
"""So many are counted at a time: 16 MB."""
Counts = NDArray[np.int32]
"""(pixels, 256): how often each had each value."""


def medians_of_others(sessions: Mapping[str, Frames]) -> dict[str, Picture | None]:
    """The median of all frames of all other sessions of one's size; None where there is none."""
    by_shape: dict[tuple[int, ...], dict[str, list[Picture]]] = defaultdict(dict)
    for session_id, played in sessions.items():
        by_shape[played[0][0].shape][session_id] = [truth for truth, _ in played]
    medians: dict[str, Picture | None] = dict.fromkeys(sessions)
    for alike in by_shape.values():
        if len(alike) > 1:
            medians |= _of_one_shape(alike)
    return medians


def _of_one_shape(sessions: Mapping[str, Sequence[Picture]]) -> dict[str, Picture]:
    """All are counted once, and each session's own taken off: linear in their number."""
    medians = {session_id: np.empty_like(own[0]) for session_id, own in sessions.items()}
    pixels = next(iter(medians.values())).size
    for start in range(0, pixels, BAND_PIXELS):
        band = slice(start, min(start + BAND_PIXELS, pixels))
        every = _counts([truth for own in sessions.values() for truth in own], band)
        for session_id, own in sessions.items():
            medians[session_id].reshape(-1)[band] = _median(every - _counts(own, band))
    return medians


def _counts(truths: Sequence[Picture], band: slice) -> Counts:
    counts = np.zeros((band.stop - band.start, 256), np.int32)
    each = np.arange(len(counts))
    for truth in truths:
        counts[each, truth.reshape(-1)[band]] += 1
    return counts


def _median(counts: Counts) -> Picture:
    """(pixels,): of an even number the mean of the two in the middle, rounded down."""
    up_to = counts.cumsum(axis=1, dtype=np.int32)
    number = int(up_to[0, -1])
    low, high = ((up_to <= rank).sum(axis=1) for rank in ((number - 1) // 2, number // 2))
    median: Picture = ((low + high) // 2).astype(np.uint8)
    return median
