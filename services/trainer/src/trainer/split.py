"""Which sessions train and which are held out. Always whole sessions, never single frames."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sgaps.recording import SegmentInfo


@dataclass(frozen=True, kw_only=True)
class Split:
    """Segments of sessions to train on, and of sessions to validate on."""

    train: tuple[SegmentInfo, ...]
    val: tuple[SegmentInfo, ...]

    @property
    def train_sessions(self) -> tuple[str, ...]:
        return _sessions(self.train)

    @property
    def val_sessions(self) -> tuple[str, ...]:
        return _sessions(self.val)


def split_by_session(
    segments: Sequence[SegmentInfo],
    *,
    val_share: float,
    trained_on: Collection[str] = (),
    whole: Collection[str] = (),
    short: Collection[str] = (),
) -> Split:
    """Hold out `val_share` of the sessions, at least one, and leave at least one to train on.

    Where some have whole frames, of those alone: else one run would be judged by whole frames, the
    next by samples. Short ones are held out last: a frame or two are no measure. Before them come
    those that the champion was trained on: it would look better on them than it is. Else the choice
    depends on the session id alone.
    """
    sessions = _sessions(segments)
    ranked = sorted(
        [session for session in sessions if session in whole] or sessions,
        key=lambda session: (session in short, session in trained_on, _rank(session)),
    )
    count = max(_val_count(len(ranked), val_share), min(1, len(sessions) - 1))
    return split_at(segments, held_out=ranked[:count])


def split_at(segments: Sequence[SegmentInfo], *, held_out: Collection[str]) -> Split:
    """The sessions `held_out` to validate on, all others to train on."""
    return Split(
        train=tuple(s for s in segments if s.session_id not in held_out),
        val=tuple(s for s in segments if s.session_id in held_out),
    )


def _sessions(segments: Sequence[SegmentInfo]) -> tuple[str, ...]:
    return tuple(sorted({segment.session_id for segment in segments}))


def _val_count(session_count: int, val_share: float) -> int:
    return max(0, min(session_count - 1, math.ceil(session_count * val_share)))


def _rank(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()
