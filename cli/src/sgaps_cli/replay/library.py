"""The recordings under a folder, each as one run of frames however many segments it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache, cachedmethod
from numpy.typing import NDArray

from sgaps.errors import RecordingError
from sgaps.recording import RecordedFrame, SegmentInfo, SegmentReader
from sgaps_cli.recordings_folder import sealed_segments, session_folders
from sgaps_cli.replay.errors import NotListed, ReplayError

OPEN_SEGMENTS = 4
REELS = 4
"""Recordings whose frames are in order at hand."""
LONGEST_PAUSE_SECS = 2.0
"""Of a session that was away for longer nobody wants to watch more."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The sealed segments of one session."""

    key: str
    session: str
    segments: tuple[SegmentInfo, ...]
    damaged: int
    """Segments that cannot be read."""

    @property
    def recording_id(self) -> str:
        return f"{self.key}/{self.session}"

    @property
    def frame_count(self) -> int:
        return sum(segment.frame_count for segment in self.segments)

    @property
    def keyframe_count(self) -> int:
        return sum(segment.keyframe_count for segment in self.segments)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def modified_at_secs(self) -> float:
        """Since 1970: when its newest segment was sealed."""
        return max((segment.modified_at_ns for segment in self.segments), default=0) / 1e9


@dataclass(frozen=True, kw_only=True, eq=False)
class Reel:
    """Where the frames of a recording are, in the order of their ids, each once."""

    recording: Recording
    frame_ids: NDArray[np.uint64]
    """(F,)"""
    places: NDArray[np.int32]
    """(F, 2): segment, position in it."""
    received_at_secs: NDArray[np.float64]
    """(F,)"""
    has_samples: NDArray[np.bool_]
    """(F,)"""
    has_keyframe: NDArray[np.bool_]
    """(F,)"""

    def __len__(self) -> int:
        return len(self.frame_ids)


class OpenSegments(LRUCache[SegmentInfo, SegmentReader]):
    """Opens a segment when it is asked for, and closes those that it lets go."""

    def __init__(self, most: int, sentinel: float | None) -> None:
        super().__init__(most)
        self._sentinel = sentinel

    def __missing__(self, segment: SegmentInfo) -> SegmentReader:
        reader = self[segment] = SegmentReader(segment.path, sentinel=self._sentinel)
        return reader

    def popitem(self) -> tuple[SegmentInfo, SegmentReader]:
        segment, reader = super().popitem()
        reader.close()
        return segment, reader

    def clear(self) -> None:
        while self:
            self.popitem()


class Library:
    """Lists recordings, and reads the frames of those that it has listed. For one thread."""

    def __init__(self, folder: Path, *, sentinel: float | None = None) -> None:
        """`sentinel`: what is missing in states is told by it, and not by the recording's own."""
        self.folder = folder
        self._listed: dict[str, Recording] = {}
        self._reels: LRUCache[object, Reel] = LRUCache(REELS)
        self._readers = OpenSegments(OPEN_SEGMENTS, sentinel)

    def scan(self) -> list[Recording]:
        """All recordings, the newest first; afterwards these can be read."""
        found = [recording_of(session) for session in session_folders(self.folder)]
        found = [one for one in found if one.segments or one.damaged]
        self._listed = {one.recording_id: one for one in found}
        self._reels.clear()
        self._readers.clear()
        return sorted(found, key=lambda one: one.modified_at_secs, reverse=True)

    def reel(self, recording_id: str) -> Reel:
        """Raises NotListed, ReplayError, RecordingError."""
        recording = self._listed.get(recording_id)
        if recording is None:
            raise NotListed("there is no such recording any more; load the page again")
        if not recording.segments:
            raise ReplayError(
                "no segment of this recording can be read; save what is left of it with "
                f"`sgaps recordings repair --root {self.folder}`"
            )
        if not recording.frame_count:
            raise ReplayError("this recording has no frames; choose another one")
        return self._reel(recording)

    def read(self, reel: Reel, position: int) -> RecordedFrame:
        """Raises NotListed, RecordingError."""
        if not 0 <= position < len(reel):
            raise NotListed(f"this recording has frames 0 to {len(reel) - 1}, by position")
        segment, place = reel.places[position].tolist()
        return self._readers[reel.recording.segments[segment]].read(place)

    def close(self) -> None:
        self._readers.clear()

    @cachedmethod(attrgetter("_reels"))
    def _reel(self, recording: Recording) -> Reel:
        return ordered(recording, map(self._readers.__getitem__, recording.segments))


def recording_of(folder: Path) -> Recording:
    """The one in a session's folder; a misplaced segment counts as damaged: it is another's."""
    try:
        infos, damaged = sealed_segments(folder)
    except RecordingError:  # `sgaps recordings verify` says why; the others are well
        infos, damaged = [], 1
    key, session = folder.parent.name, folder.name
    own = tuple(one for one in infos if (one.checkpoint_key, one.session_id) == (key, session))
    return Recording(
        key=key, session=session, segments=own, damaged=damaged + len(infos) - len(own)
    )


def ordered(recording: Recording, readers: Iterable[SegmentReader]) -> Reel:
    """Frames by id: a redelivered frame was recorded out of order, or twice."""
    parts = [_contents(number, reader) for number, reader in enumerate(readers)]
    ids, places, times, sampled, whole = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    _, first = np.unique(ids, return_index=True)  # sorted by id
    return Reel(
        recording=recording,
        frame_ids=ids[first],
        places=places[first],
        received_at_secs=times[first],
        has_samples=sampled[first],
        has_keyframe=whole[first],
    )


def _contents(number: int, reader: SegmentReader) -> tuple[NDArray[Any], ...]:
    """Of one segment's frames: ids (F,), places (F, 2), times, whether sampled, whether whole."""
    positions = np.arange(len(reader), dtype=np.int32)
    places = np.stack([np.full_like(positions, number), positions], axis=1)
    whole = np.isin(positions, reader.keyframe_positions)
    return reader.frame_ids, places, reader.received_at_secs, reader.sample_counts > 0, whole


def playing_times(received_at_secs: NDArray[np.float64], usual_secs: float) -> list[float]:
    """Seconds since the first frame: at the recorded rate, without its long pauses.

    Where the clock tells nothing, because it stood or went backwards, a frame takes the usual time.
    """
    gaps = np.diff(received_at_secs)
    gaps = np.where(gaps > 0, np.minimum(gaps, LONGEST_PAUSE_SECS), usual_secs)
    times: list[float] = np.concatenate([[0.0], np.cumsum(gaps)]).round(4).tolist()
    return times[: len(received_at_secs)]
