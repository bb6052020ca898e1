"""What a whole system has recorded."""

from __future__ import annotations

from collections import Counter

from e2e.conftest import System
from sgaps.recording import SegmentReader, find_segments
from waiting import wait_until


def recorded_frames(system: System, session_id: str) -> Counter[int]:
    """How often each frame id of a session is in the sealed segments."""
    counts: Counter[int] = Counter()
    for segment in find_segments(system.data_dir / "recordings"):
        if segment.session_id == session_id:
            with SegmentReader(segment.path) as reader:
                counts.update(int(frame_id) for frame_id in reader.frame_ids)
    return counts


def wait_until_recorded(system: System, session_id: str, count: int) -> Counter[int]:
    def look() -> Counter[int] | None:
        frames = recorded_frames(system, session_id)
        return frames if len(frames) >= count else None

    return wait_until(look, f"{count} frames of {session_id} are recorded")
