"""Which sessions train and which are held out. Always whole sessions, never single frames."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgaps.errors import SgapsError
from sgaps.recording import SegmentInfo
from trainer.saved_run import CannotResume, anew
from trainer.segments import frames_to_learn_from

log = logging.getLogger(__name__)

FEWEST_HELD_OUT = 10
"""Frames to learn from of a session that is held out, as long as there are others."""


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


def split_for(
    segments: Sequence[SegmentInfo],
    *,
    val: Sequence[SegmentInfo],
    val_share: float,
    known: frozenset[str],
    champion_version: str,
    held_out_before: Sequence[str] | None,
    saved_at: Path,
) -> Split:
    """Of a run: what it is told to hold out, or held out before it was cut off (and saved at a
    path), or a share.

    `known` are the sessions that champion and challenger were trained on so far. Raises SgapsError
    where nothing would be held out, or what was trained on.
    """
    if val:
        split = Split(train=tuple(segments), val=tuple(val))
        _refuse_known(split, known)
        return split
    # Else what a broken client sent may be all that is held out, in every run.
    frames = frames_to_learn_from(segments)
    segments = [segment for segment in segments if frames[segment.session_id].frames]
    if held_out_before is not None:
        split = split_at(segments, held_out=held_out_before)
        if not (split.train and split.val):
            raise CannotResume(
                "the sessions that this run held out, or all others, are not among these "
                f"recordings: name them with data.val=[…] as before, or {anew(saved_at)}"
            )
        return split
    split = split_by_session(
        segments,
        val_share=val_share,
        trained_on=known,
        whole={name for name, found in frames.items() if found.are_whole},
        short={name for name, found in frames.items() if found.frames < FEWEST_HELD_OUT},
    )
    if not split.val:
        raise SgapsError(
            "two sessions with frames that are whole or have two samples are needed: one is held "
            "out; record another one, or name some with data.val=[…]"
        )
    if not known.isdisjoint(split.val_sessions):
        log.warning(
            "%s was trained on what is held out, so it looks better than it is: record more, or "
            "name other sessions with data.val=[…]",
            champion_version,
        )
    return split


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


def _refuse_known(split: Split, known: frozenset[str]) -> None:
    """What was learned by heart tells nothing of how good a model is elsewhere."""
    val = set(split.val_sessions)
    if both := val.intersection(split.train_sessions):
        raise SgapsError(f"data.val: {min(both)} is in data.train too")
    if seen := val & known:
        raise SgapsError(
            f"data.val: what this run goes on from was trained on {len(seen)} of these sessions, "
            f"{min(seen)} among them; hold out others: sgaps capture makes some (another --seed)"
        )


def _sessions(segments: Sequence[SegmentInfo]) -> tuple[str, ...]:
    return tuple(sorted({segment.session_id for segment in segments}))


def _val_count(session_count: int, val_share: float) -> int:
    return max(0, min(session_count - 1, math.ceil(session_count * val_share)))


def _rank(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()
