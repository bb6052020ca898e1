"""Mending recordings, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgaps.errors import RecordingError
from sgaps.recording import RecordedFrame, SegmentReader
from sgaps.recording.recovery import RecoveredSegment, salvage
from sgaps_cli.segment_check import SegmentReport, sound_frame


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was done about a file, or could not be."""

    path: str
    what: str
    well: bool = True


def relative(path: Path | str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def recovered(outcome: RecoveredSegment, root: Path) -> Repair:
    path = relative(outcome.path, root)
    if outcome.info:
        return Repair(path=path, what=f"recovered, {outcome.info.frame_count} frames")
    is_left = outcome.path.name.endswith(".part") and outcome.path.exists()
    what = f"left as it is: {outcome.reason}" if is_left else outcome.reason
    return Repair(path=path, what=what, well=not is_left)


def repair_segment(report: SegmentReport, known: set[int], root: Path) -> Repair:
    """Copies what no other segment has, and adds it to the known."""
    path = relative(report.path, root)
    if report.is_misplaced:
        return Repair(path=path, what=f"left: {report.findings[0].problem}", well=False)

    bare: set[int] = set()

    def take(reader: SegmentReader, position: int) -> RecordedFrame | None:
        if int(reader.frame_ids[position]) in known:
            return None
        frame = sound_frame(reader, position)
        if position in reader.keyframe_positions and not frame.keyframe:
            bare.add(frame.frame_id)
        return frame

    try:
        outcome = salvage(report.path, take=take)
        if outcome.info is None:
            return Repair(path=path, what=f"{outcome.path.name} now; nothing else was in it")
        with SegmentReader(outcome.info.path) as reader:
            known.update(reader.frame_ids.tolist())
    except RecordingError as error:
        return Repair(path=path, what=f"left as it is: {error}", well=False)
    saved = f"{outcome.info.frame_count} frames are in {outcome.info.path.name}"
    if bare:
        saved += f", {len(bare)} of them without their keyframes, which are damaged"
    return Repair(path=path, what=f"{outcome.path.name} now; {saved}")
