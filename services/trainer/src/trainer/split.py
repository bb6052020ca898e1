"""Which sessions train and which are held out. Always whole sessions, never single frames."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sgaps.recording import SegmentInfo


@dataclass(frozen=True, kw_only=True)
class Split:
    """Segments of sessions to train on, and of sessions to validate on."""

    train: tuple[SegmentInfo, ...]
    val: tuple[SegmentInfo, ...]


def split_by_session(segments: Sequence[SegmentInfo], *, val_share: float) -> Split:
    """Hold out `val_share` of the sessions, at least one, and leave at least one to train on.

    The choice depends on the session id alone, so that a session held out once stays held out
    while others come, as long as the share allows.
    """
    sessions = sorted({segment.session_id for segment in segments}, key=_rank)
    held_out = set(sessions[: _val_count(len(sessions), val_share)])
    return Split(
        train=tuple(s for s in segments if s.session_id not in held_out),
        val=tuple(s for s in segments if s.session_id in held_out),
    )


def _val_count(session_count: int, val_share: float) -> int:
    return max(0, min(session_count - 1, math.ceil(session_count * val_share)))


def _rank(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()
