"""The archive: every frame of every session on disk, once. Knows neither the bus nor asyncio.

Memory stays flat: of a session only its newest frame id and its open segment are kept. A frame
with a higher id is new; any other is looked up in the segments on disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from recorder.session import SessionRecording
from sgaps.errors import MessageError, RecordingError
from sgaps.messages import FrameAccepted, SegmentSealed
from sgaps.recording.disk import ensure_free_space, make_folder, try_lock
from sgaps.recording.frames import RecordedFrame, check_state_fits
from sgaps.recording.layout import part_paths, session_folder
from sgaps.recording.reader import SegmentInfo
from sgaps.recording.recovery import recover_part, recover_parts
from sgaps.settings import Settings

log = logging.getLogger(__name__)

LOCK_NAME = ".recorder.lock"

Owner: TypeAlias = tuple[str, str]
"""checkpoint_key, session_id."""
FrameName: TypeAlias = tuple[str, int]
"""session_id, frame_id."""


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What became of a batch: all but the failed frames are on disk and may be acknowledged."""

    recorded: int
    duplicates: int
    size_bytes: int
    """Samples, states and keyframes that were recorded."""
    newest_frame_ids: Mapping[str, int]
    """session id → highest frame id on disk, for the sessions that did not fail."""
    failed: Mapping[FrameName, RecordingError | MessageError]
    """Why these frames are not on disk."""


class Archive:
    """Writes below one recordings folder, which it locks: one recorder per folder.

    Raises RecordingError if another recorder has the folder, or it cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.data.recordings_dir
        self._settings = settings.recorder
        self._max_state_dim = settings.max_state_dim
        self._sentinel = settings.sentinel_value
        self._sessions: dict[Owner, SessionRecording] = {}
        self._unannounced: list[SegmentInfo] = []
        self._lock = _lock_folder(self._root)

    def recover(self) -> list[SegmentSealed]:
        """Seal what killed writers left below the folder. Call it once, before `record`."""
        outcomes = recover_parts(self._root)
        self._unannounced += [outcome.info for outcome in outcomes if outcome.info]
        return self._announce()

    def record(self, frames: Sequence[FrameAccepted]) -> BatchReport:
        """Write frames of any sessions; each is on disk once, however often it comes.

        A frame or a session that cannot be written is reported as failed and does not stop the
        others. Raises DiskFull before anything is written: then `seal_all`, and wait for space.
        """
        incoming_bytes = sum(map(_message_bytes, frames))
        ensure_free_space(self._root, self._settings.min_free_bytes + incoming_bytes)
        tally = _Tally()
        for owner, batch in self._by_owner(frames, tally).items():
            try:
                self._record_session(owner, batch, tally)
            except RecordingError as error:
                tally.fail(owner[1], batch, error)
                self._set_aside(owner)
        return BatchReport(**vars(tally))

    def seal_idle(self, now_secs: float) -> list[SegmentSealed]:
        """Seal the full segments, and those of sessions silent at this wall-clock time."""
        for owner, session in list(self._sessions.items()):
            is_idle = now_secs - session.active_at_secs >= self._settings.segment_idle_secs
            if is_idle or session.open_frame_count >= self._settings.segment_frames:
                self._seal(owner, forget=is_idle)
        return self._announce()

    def seal_all(self) -> list[SegmentSealed]:
        """Seal every open segment, at the end or on a full disk."""
        for owner in list(self._sessions):
            self._seal(owner, forget=True)
        return self._announce()

    def close(self) -> None:
        """Unlock the folder for another recorder. Call `seal_all` first."""
        os.close(self._lock)

    def _by_owner(
        self, messages: Sequence[FrameAccepted], tally: _Tally
    ) -> dict[Owner, list[RecordedFrame]]:
        batches: dict[Owner, list[RecordedFrame]] = defaultdict(list)
        for message in messages:
            try:
                frame = _recorded_frame(message)
                check_state_fits(frame, self._max_state_dim)
            except (MessageError, RecordingError) as error:
                tally.failed[message.session_id, message.frame_id] = error
            else:
                batches[message.checkpoint_key, message.session_id].append(frame)
        return batches

    def _record_session(self, owner: Owner, frames: Sequence[RecordedFrame], tally: _Tally) -> None:
        session = self._session(owner)
        session.active_at_secs = time.time()
        unseen = session.unseen(frames)
        session.write(unseen)
        tally.recorded += len(unseen)
        tally.duplicates += len(frames) - len(unseen)
        tally.size_bytes += sum(map(_frame_bytes, unseen))
        tally.newest_frame_ids[owner[1]] = session.newest_frame_id

    def _session(self, owner: Owner) -> SessionRecording:
        if owner not in self._sessions:
            self._recover_parts(owner)
            self._sessions[owner] = SessionRecording(
                self._root,
                checkpoint_key=owner[0],
                session_id=owner[1],
                max_state_dim=self._max_state_dim,
                sentinel=self._sentinel,
            )
        return self._sessions[owner]

    def _seal(self, owner: Owner, *, forget: bool) -> None:
        session = self._sessions[owner]
        try:
            info = session.seal()
        except RecordingError:
            log.exception("cannot seal a segment of %s", owner)
            self._set_aside(owner)
            return
        if info:
            self._unannounced.append(info)
        if forget:
            del self._sessions[owner]

    def _set_aside(self, owner: Owner) -> None:
        """Give up a segment that failed; the session's next frame begins another."""
        session = self._sessions.pop(owner, None)
        if session is None:
            return
        try:
            session.abandon()
            self._recover_parts(owner)
        except RecordingError:
            log.exception("a segment of %s waits for recovery", owner)

    def _recover_parts(self, owner: Owner) -> None:
        """Seal a session's parts: what is in them counts. Raises RecordingError if one stays."""
        for part in part_paths(session_folder(self._root, *owner)):
            outcome = recover_part(part)
            if outcome is None or outcome.path == part:
                raise RecordingError(f"{part}: {outcome.reason if outcome else 'is being written'}")
            if outcome.info:
                self._unannounced.append(outcome.info)

    def _announce(self) -> list[SegmentSealed]:
        sealed = [_announcement(info, self._root) for info in self._unannounced]
        self._unannounced.clear()
        return sealed


@dataclass
class _Tally:
    """A report in the making."""

    recorded: int = 0
    duplicates: int = 0
    size_bytes: int = 0
    newest_frame_ids: dict[str, int] = field(default_factory=dict)
    failed: dict[FrameName, RecordingError | MessageError] = field(default_factory=dict)

    def fail(self, session_id: str, frames: Sequence[RecordedFrame], error: RecordingError) -> None:
        self.failed |= {(session_id, frame.frame_id): error for frame in frames}


def _lock_folder(root: Path) -> int:
    try:
        make_folder(root)
        descriptor = os.open(root / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RecordingError(f"cannot use the recordings folder {root}: {error}") from error
    if not try_lock(descriptor):
        os.close(descriptor)
        raise RecordingError(f"another recorder writes to {root}")
    return descriptor


def _recorded_frame(message: FrameAccepted) -> RecordedFrame:
    return RecordedFrame(
        frame_id=message.frame_id,
        coordinate_set_id=message.coordinate_set_id,
        width=message.width,
        height=message.height,
        samples=message.samples,
        state=message.state,
        client_time_secs=message.client_time_secs,
        received_at_secs=message.received_at_secs,
        keyframe_encoding=message.keyframe_encoding,
        keyframe=message.keyframe,
    )


def _message_bytes(message: FrameAccepted) -> int:
    samples_bytes = len(message.samples_bytes) + len(message.footprint_bytes)
    return samples_bytes + len(message.state_bytes) + len(message.keyframe)


def _frame_bytes(frame: RecordedFrame) -> int:
    samples_bytes = frame.samples[:, :3].nbytes + len(frame.samples)
    return samples_bytes + frame.state.nbytes + len(frame.keyframe)


def _announcement(info: SegmentInfo, root: Path) -> SegmentSealed:
    return SegmentSealed(
        checkpoint_key=info.checkpoint_key,
        session_id=info.session_id,
        path=info.path.relative_to(root).as_posix(),
        frame_count=info.frame_count,
        size_bytes=info.size_bytes,
    )
