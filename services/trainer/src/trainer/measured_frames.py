"""The frames that a checkpoint is measured on: of which sessions, and how many of each."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import chain, groupby

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import SgapsError
from sgaps.protocol.bounds import MAX_SAMPLES
from sgaps.recording import SegmentInfo, SegmentReader, find_segments, segment_info
from sgaps.settings import DataSettings, Settings
from trainer.closed_loop import Frames
from trainer.pictures import Picture
from trainer.segments import KeyframeCorrupt, each_once, whole_frame

log = logging.getLogger(__name__)

MIN_FRAMES = 2
"""Of a session that is measured: a frame and the one before it."""


def frames_to_measure(
    key: str, settings: Settings, trained_on: frozenset[str], *, count: int
) -> dict[str, Frames]:
    """The first whole frames of each session, two at least. Raises SgapsError."""
    sessions = {
        session_id: _of_one_size(session_id, _frames(segments, count, settings.sentinel_value))
        for session_id, segments in _sessions(key, settings, trained_on).items()
    }
    if short := [name for name, played in sessions.items() if len(played) < MIN_FRAMES]:
        log.warning(
            "%d sessions have fewer than two frames and are left out, %s for one",
            len(short),
            short[0],
        )
    sessions = {name: played for name, played in sessions.items() if len(played) >= MIN_FRAMES}
    if not sessions:
        raise SgapsError("two frames of a session are needed: a frame and the one before it")
    return sessions


def _sessions(
    key: str, settings: Settings, trained_on: frozenset[str]
) -> dict[str, list[SegmentInfo]]:
    """Segments of sessions of whole frames, by session. Raises SgapsError where there are none.

    Of the recordings folder only those that the checkpoint was not trained on; what data.test
    names is measured all the same, with a warning.
    """
    found: dict[str, list[SegmentInfo]] = {}
    for segment in _segments(key, settings.data):
        found.setdefault(segment.session_id, []).append(segment)
    sessions = {name: segments for name, segments in found.items() if _is_whole(segments)}
    if not sessions:
        paths = settings.data.test or (settings.data.recordings_dir,)
        raise SgapsError(
            f"no sessions of whole frames of {key!r} in {', '.join(map(str, paths))}; "
            f"make some: sgaps capture GAME --key {key}, or play with server.keyframe_interval=1"
        )
    if holed := [name for name in found if name not in sessions]:
        log.warning(
            "%d sessions have frames that did not come whole and are left out, %s for one",
            len(holed),
            holed[0],
        )
    seen = sorted(trained_on & sessions.keys())
    if settings.data.test:
        if seen:
            log.warning("the checkpoint was trained on %s: too good here", ", ".join(seen))
        return sessions
    unseen = {name: of_it for name, of_it in sessions.items() if name not in trained_on}
    if not unseen:
        raise SgapsError(
            f"the checkpoint was trained on every session of {key!r} in "
            f"{settings.data.recordings_dir}; record another one, or name sessions to measure it "
            "on: data.test=[…]"
        )
    return unseen


def _is_whole(segments: Sequence[SegmentInfo]) -> bool:
    return all(segment.keyframe_count == segment.frame_count for segment in segments)


def _segments(key: str, data: DataSettings) -> list[SegmentInfo]:
    """Those of the key in the folders that data.test names, and the files that it names.

    Raises SgapsError.
    """
    if not data.test:
        return find_segments(data.recordings_dir, key)
    found = chain.from_iterable(
        find_segments(path, key) if path.is_dir() else [segment_info(path)] for path in data.test
    )
    return each_once("data.test", found)


def possible_counts(wanted: Sequence[int], sessions: Iterable[Frames]) -> list[int]:
    """The counts, each once, that every session has the pixels for, and a message the room."""
    pixels = min(played[0][0].size for played in sessions)
    most = min(pixels, MAX_SAMPLES)
    if max(wanted) > most:
        log.warning(
            "the smallest frame has %d pixels, a message takes %d samples: more are not measured",
            pixels,
            MAX_SAMPLES,
        )
    return list(dict.fromkeys(min(count, most) for count in wanted))


def _frames(segments: Sequence[SegmentInfo], count: int, sentinel: float) -> Frames:
    """The first frames of a session; it ends where one cannot be decoded."""
    found: list[tuple[Picture, NDArray[np.float32]]] = []
    for segment in segments:
        with SegmentReader(segment.path, sentinel=sentinel) as reader:
            for position in range(min(count - len(found), len(reader))):
                frame = reader.read(position)
                try:
                    found.append((whole_frame(reader, frame), frame.state))
                except KeyframeCorrupt as error:
                    log.warning("the session is measured up to here: %s", error)
                    return found
    return found


def _of_one_size(session_id: str, played: Frames) -> Frames:
    """The longest part of a session in one resolution: it may be resumed with another."""
    parts = [list(part) for _, part in groupby(played, key=lambda frame: frame[0].shape)]
    longest = max(parts, key=len, default=[])
    if len(parts) > 1:
        log.warning(
            "session %s changes its resolution: of its %d frames %d are measured",
            session_id,
            len(played),
            len(longest),
        )
    return longest
