"""The archive: every frame of every session on disk, once. Knows neither the bus nor asyncio.

Memory stays flat: of a session only its newest frame id and its open segment are kept. A frame
with a higher id is new; any other is looked up in the segments on disk.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sgaps.errors import MessageError, RecordingCorrupt, RecordingError
from sgaps.messages import FrameAccepted, SegmentSealed
from sgaps.recording.disk import ensure_free_space, make_folder, try_lock
from sgaps.recording.frames import RecordedFrame, check_state_fits
from sgaps.recording.layout import PART_SUFFIX, SEALED_SUFFIX, next_segment_path, session_folder
from sgaps.recording.reader import SegmentInfo, SegmentReader, segment_info
from sgaps.recording.recovery import recover_part, recover_parts
from sgaps.recording.writer import SegmentWriter
from sgaps.settings import RecorderSettings

log = logging.getLogger(__name__)

LOCK_NAME = ".recorder.lock"

SessionKey: TypeAlias = tuple[str, str]
"""checkpoint_key, session_id."""
Batch: TypeAlias = Sequence[tuple[int, RecordedFrame]]
"""Frames of one session, each with its position in what `record` was given."""


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What became of a batch. All but the failed frames are on disk and may be acknowledged."""

    recorded: int
    duplicates: int
    size_bytes: int
    """Samples, state and keyframes of the recorded frames."""
    newest_frame_ids: Mapping[str, int]
    """session id → its highest frame id on disk, for each session of the batch."""
    failed: Mapping[int, RecordingError | MessageError]
    """Position in the batch → why that frame is not on disk."""
