"""What a session had seen before a frame: for the trainer and for replays the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import RecordingCorrupt
from sgaps.recording.frames import RecordedFrame


def places_before(frame_ids: NDArray[np.uint64], position: int, count: int) -> list[int]:
    """frame_ids (F,) in the order of recording → up to `count` positions, the newest first."""
    now = int(frame_ids[position])
    places = range(position - 1, max(-1, position - 1 - count), -1)
    # A redelivered frame was recorded out of order.
    return [place for place in places if int(frame_ids[place]) < now]


def frames_before(
    read: Callable[[int], RecordedFrame],
    frame_ids: NDArray[np.uint64],
    position: int,
    count: int,
    *,
    size: tuple[int, int],
) -> list[tuple[int, RecordedFrame]]:
    """(age in frames, frame) of those before a position, the newest first.

    Without those that are corrupt: what comes after them is readable. As far back as they have the
    frame's own size (width, height): a session that came back with another has no past in it.
    """
    now, frames = int(frame_ids[position]), []
    for place in places_before(frame_ids, position, count):
        with suppress(RecordingCorrupt):
            frames.append(read(place))
    same = takewhile(lambda frame: (frame.width, frame.height) == size, frames)
    return [(now - frame.frame_id, frame) for frame in same]
