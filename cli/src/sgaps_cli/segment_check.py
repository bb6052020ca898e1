"""Whether sealed segments are what they should be, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgaps import whole_frames
from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.recording import RecordedFrame, SegmentReader
from sgaps.recording.layout import owner_of


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not well with a file."""

    path: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class SegmentReport:
    """One sealed segment after all its frames were read."""

    path: Path
    frame_ids: frozenset[int]
    """Of the frames that are well, and in no segment before."""
    findings: tuple[Finding, ...]
    is_misplaced: bool
    """Whether it is another session's."""


def check_session(segments: Sequence[Path]) -> list[SegmentReport]:
    """Read all frames of a session's segments, oldest first; those that are still there."""
    seen: set[int] = set()
    reports = []
    for path in segments:
        report = _check(path, seen)
        if report.findings and not path.exists():
            continue  # a recorder deleted it meanwhile
        reports.append(report)
        if not report.is_misplaced:
            seen |= report.frame_ids
    return reports


def _check(path: Path, seen: set[int]) -> SegmentReport:
    own: set[int] = set()
    problems: list[str] = []
    is_misplaced = False
    try:
        with SegmentReader(path) as reader:
            owner = (reader.checkpoint_key, reader.session_id)
            is_misplaced = owner != owner_of(path)
            if is_misplaced:
                problems.append(f"it belongs to {'/'.join(owner)}")
            for frame_id, problem in _frames(reader):
                if problem:
                    problems.append(problem)
                elif frame_id in seen or frame_id in own:
                    problems.append(f"frame {frame_id} is recorded twice")
                else:
                    own.add(frame_id)
    except RecordingError as error:
        problems.append(str(error).removeprefix(f"{path}: "))
    return SegmentReport(
        path=path,
        frame_ids=frozenset(own),
        findings=tuple(Finding(path=str(path), problem=problem) for problem in problems),
        is_misplaced=is_misplaced,
    )


def _frames(reader: SegmentReader) -> Iterator[tuple[int, str]]:
    """Id of every frame and what is wrong with it, if anything."""
    for position, frame_id in enumerate(reader.frame_ids.tolist()):
        try:
            _whole_frame(reader, position)
            yield frame_id, ""
        except RecordingCorrupt as error:
            yield frame_id, str(error).removeprefix(f"{reader.path}: ")


def sound_frame(reader: SegmentReader, position: int) -> RecordedFrame:
    """The frame; without its keyframe where only that is not well, and samples are beside it.

    Raises RecordingCorrupt.
    """
    try:
        return _whole_frame(reader, position)
    except RecordingCorrupt:
        if not reader.sample_counts[position]:
            raise
        return reader.read(position, keyframe=False)


def _whole_frame(reader: SegmentReader, position: int) -> RecordedFrame:
    """Raises RecordingCorrupt."""
    frame = reader.read(position)
    if problem := keyframe_problem(frame):
        raise RecordingCorrupt(f"{reader.path}: {problem}")
    return frame


def keyframe_problem(frame: RecordedFrame) -> str:
    """What is wrong with the whole picture of a frame; empty where nothing is, or there is none."""
    if not frame.keyframe:
        return ""
    if whole_frames.picture_of(frame.keyframe, frame.width, frame.height) is not None:
        return ""
    size = whole_frames.size_of(frame.keyframe)
    if size is None or size == (frame.width, frame.height):
        return f"frame {frame.frame_id}: its keyframe cannot be decoded"
    return f"frame {frame.frame_id}: its keyframe has {size[0]}x{size[1]} pixels"
