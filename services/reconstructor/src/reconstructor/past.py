"""The samples of a session's earlier frames: remembered where they went through this replica."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from cachetools import LRUCache

from sgaps.bus import Bus
from sgaps.keys import PastSamples, history_key
from sgaps.messages import FrameAccepted
from sgaps.packing import Float32

MOST_BYTES = 1 << 27
"""That a replica remembers: eight frames of 500 samples of each of 1,950 sessions."""
BESIDES_BYTES = 600
"""Of a frame, at most, beside its numbers: what Python takes for it, and its part of a session."""

Past: TypeAlias = tuple[tuple[int, Float32], ...]
"""(frame id, samples (N, 4)), newest first, all of one size of picture."""


class _Remembered(NamedTuple):
    """Of a session, the newest frame among them."""

    size: tuple[int, int]
    past: Past

    @property
    def size_bytes(self) -> int:
        return sum(samples.nbytes + BESIDES_BYTES for _, samples in self.past)


class Pasts:
    """What came before a frame. The broker has it, so nothing is lost with a replica.

    A frame says which one came before it. Where that is the newest one remembered here, the broker
    has nothing else; where it went elsewhere, or nothing is said of it, the broker is asked.
    """

    def __init__(self, bus: Bus, *, frames: int) -> None:
        """`frames`: how many of a session the broker has; a model looks back to no more."""
        self._bus = bus
        self._frames = frames
        self._remembered: LRUCache[str, _Remembered] = LRUCache(
            MOST_BYTES, getsizeof=attrgetter("size_bytes")
        )

    async def before(self, frames: Sequence[FrameAccepted]) -> list[Past]:
        """Of each frame, in order; remembers these frames as well. Raises BusError, MessageError.

        No two frames of a session may be among them.
        """
        if not self._frames:
            return [()] * len(frames)
        known = {frame.session_id: self._known(frame) for frame in frames}
        unknown = [frame for frame in frames if known[frame.session_id] is None]
        pasts = known | dict(
            zip((f.session_id for f in unknown), await self._read(unknown), strict=True)
        )
        return [self._remember(frame, pasts[frame.session_id] or ()) for frame in frames]

    def _known(self, frame: FrameAccepted) -> Past | None:
        if frame.previous_frame_id == -1:
            return ()
        known = self._remembered.get(frame.session_id)
        if known is None or known.past[0][0] != frame.previous_frame_id:
            return None
        return known.past if known.size == _size(frame) else ()

    async def _read(self, frames: Sequence[FrameAccepted]) -> list[Past]:
        if not frames:
            return []
        keys = [history_key(frame.session_id) for frame in frames]
        # The newest is the frame itself.
        lists = await self._bus.lists(keys, count=self._frames + 1)
        return [past_of(frame, values) for frame, values in zip(frames, lists, strict=True)]

    def _remember(self, frame: FrameAccepted, past: Past) -> Past:
        remembered = self._remembered.get(frame.session_id)
        is_late = remembered and remembered.past[0][0] >= frame.frame_id
        together = ((frame.frame_id, frame.samples), *past)[: self._frames]
        if not is_late:
            with suppress(ValueError):  # larger than all room: the broker is asked for it
                self._remembered[frame.session_id] = _Remembered(_size(frame), together)
        return past


def past_of(frame: FrameAccepted, values: Sequence[bytes]) -> Past:
    """What a session's list says of the frames before this one, as far back as they have its size.

    Raises MessageError.
    """
    older = [p for p in map(PastSamples.decode, values) if p.frame_id < frame.frame_id]
    same = takewhile(lambda p: _size(p) == _size(frame), older)
    return tuple((p.frame_id, p.samples) for p in same)


def _size(frame: FrameAccepted | PastSamples) -> tuple[int, int]:
    return frame.width, frame.height
