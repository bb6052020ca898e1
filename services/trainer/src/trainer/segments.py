"""Which frames of sealed segments there are to learn from, and their whole pictures."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgaps import whole_frames
from sgaps.errors import RecordingCorrupt, SgapsError
from sgaps.recording import RecordedFrame, SegmentInfo, SegmentReader

log = logging.getLogger(__name__)

OPEN_SEGMENTS = 64
FEWEST_SAMPLES = 2
"""Of a frame to learn from without a whole one: one to see, one to judge by."""
CURE = "`sgaps recordings repair` copies the other frames and sets the file aside"
"""Of a segment with a keyframe that cannot be decoded."""
Places: TypeAlias = NDArray[np.int32]
"""(frames, 4): segment, position in it, width, height."""


class KeyframeCorrupt(RecordingCorrupt):
    """A whole frame that cannot be decoded, of a segment that can be read."""


def each_once(setting: str, segments: Iterable[SegmentInfo]) -> list[SegmentInfo]:
    """What the paths of a setting lead to, however often. Raises SgapsError where two sessions have
    one id.
    """
    found = list({segment.path.resolve(): segment for segment in segments}.values())
    folders: dict[str, Path] = {}
    for segment in found:
        folder = segment.path.resolve().parent
        if folders.setdefault(segment.session_id, folder) != folder:
            raise SgapsError(
                f"session {segment.session_id} is in {folders[segment.session_id]} and in "
                f"{folder}: name one of them in {setting}"
            )
    return found


def places_to_learn_from(segments: Sequence[SegmentInfo]) -> tuple[Places, bool]:
    """Frames, and whether they are whole ones: all that have a keyframe, where one can be decoded,
    else all that have samples enough.

    Without the keyframes of a size of which none can be decoded, for nothing could take their
    place. Raises RecordingCorrupt.
    """
    whole = _without_dead_sizes(segments, _places(segments, keyframes=True))
    if len(whole):
        return whole, True
    return _places(segments, keyframes=False), False


class Lessons(NamedTuple):
    """What there is to learn from in a session."""

    frames: int
    are_whole: bool


def frames_to_learn_from(segments: Sequence[SegmentInfo]) -> dict[str, Lessons]:
    """Those of each session by itself. Raises RecordingCorrupt."""
    sessions: dict[str, list[SegmentInfo]] = defaultdict(list)
    for segment in segments:
        sessions[segment.session_id].append(segment)
    found = {name: places_to_learn_from(of_session) for name, of_session in sessions.items()}
    return {name: Lessons(len(places), whole) for name, (places, whole) in found.items()}


def whole_frame(reader: SegmentReader, frame: RecordedFrame) -> NDArray[np.uint8]:
    """Of a segment, uint8 (H, W). Raises KeyframeCorrupt, which names the file and its cure."""
    picture = whole_frames.picture_of(frame.keyframe, frame.width, frame.height)
    if picture is None:
        raise KeyframeCorrupt(
            f"{reader.path}: frame {frame.frame_id}: its keyframe cannot be decoded; {CURE}"
        )
    return picture


@lru_cache(maxsize=OPEN_SEGMENTS)
def open_segment(segment: SegmentInfo, sentinel: float | None = None) -> SegmentReader:
    """A reader that stays open until `close_segments`. Raises RecordingCorrupt.

    Whoever looks at states names the sentinel by which to know what is missing.
    """
    return SegmentReader(segment.path, sentinel=sentinel)


def close_segments() -> None:
    """What is deleted gives its space back only when nobody has it open any more."""
    open_segment.cache_clear()


@lru_cache(maxsize=1024)
def tell_corrupt(path: Path) -> None:
    """Once, however many keyframes of it are corrupt and however often they are drawn."""
    log.warning("left out: keyframes of %s that cannot be decoded; %s", path, CURE)


def is_good(segment: SegmentInfo, position: int) -> bool:
    """Whether a frame's keyframe can be decoded; told where not. Raises RecordingCorrupt."""
    reader = open_segment(segment)
    try:
        whole_frame(reader, reader.read(position))
    except KeyframeCorrupt:
        tell_corrupt(segment.path)
        return False
    return True


def _places(segments: Sequence[SegmentInfo], *, keyframes: bool) -> Places:
    rows = [np.empty((0, 4), np.int32)]
    for number, segment in enumerate(segments):
        if segment.keyframe_count or not keyframes:
            rows.append(_places_in(segment.path, number, keyframes=keyframes))
    return np.concatenate(rows)


def _places_in(path: Path, number: int, *, keyframes: bool) -> Places:
    with SegmentReader(path) as reader:
        positions = reader.keyframe_positions
        if not keyframes:
            positions = np.flatnonzero(reader.sample_counts >= FEWEST_SAMPLES)
        rows = [(number, int(p), *reader.resolution(int(p))) for p in positions]
    return np.array(rows, np.int32).reshape(-1, 4)


def _without_dead_sizes(segments: Sequence[SegmentInfo], places: Places) -> Places:
    """Looks at as many keyframes of each size as it takes to find a good one: mostly one."""
    sizes, which = np.unique(places[:, 2:], axis=0, return_inverse=True)
    alive = np.zeros(len(sizes), np.bool_)
    for size in range(len(sizes)):
        # From everywhere: the neighbours of a bad one are of the same client.
        order = np.random.default_rng(0).permutation(places[which == size, :2])
        alive[size] = any(is_good(segments[number], at) for number, at in order.tolist())
    return places[alive[which]]
