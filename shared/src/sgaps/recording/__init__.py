"""The HDF5 layout of recordings: written by recorder and captures, read by the trainer."""

from sgaps.recording.find import SegmentInfo, find_segments, segment_info
from sgaps.recording.frames import RecordedFrame
from sgaps.recording.history import frames_before, places_before
from sgaps.recording.layout import next_segment_path, session_folder
from sgaps.recording.reader import SegmentReader
from sgaps.recording.recovery import RecoveredSegment, recover_parts
from sgaps.recording.trained import (
    SegmentName,
    being_read,
    note_trained,
    segment_name,
    trained_segments,
    untrained,
)
from sgaps.recording.writer import SegmentWriter

__all__ = [
    "RecordedFrame",
    "RecoveredSegment",
    "SegmentInfo",
    "SegmentName",
    "SegmentReader",
    "SegmentWriter",
    "being_read",
    "find_segments",
    "frames_before",
    "next_segment_path",
    "note_trained",
    "places_before",
    "recover_parts",
    "segment_info",
    "segment_name",
    "session_folder",
    "trained_segments",
    "untrained",
]
