"""The archive: every frame of every session on disk, once. Knows neither the bus nor asyncio.

Memory stays flat: of a session only its newest frame id and its open segment are kept, and
nothing once it is silent. A frame with a higher id is new; any other is looked up on disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from recorder.capacity import max_open_segments
from recorder.session import SessionRecording
from sgaps.errors import MessageError, RecordingError, StorageFails
from sgaps.messages import FrameAccepted, SegmentSealed
from sgaps.metrics import recorder as metrics
from sgaps.packing import unpack_together
from sgaps.recording.disk import ensure_free_space, ensure_writable, lock_recordings
from sgaps.recording.find import SegmentInfo
from sgaps.recording.frames import RecordedFrame, check_state_fits
from sgaps.recording.layout import all_part_paths, owner_of, part_paths, session_folder
from sgaps.recording.recovery import recover_part
from sgaps.recording.writer import growth_bytes
from sgaps.settings import Settings

log = logging.getLogger(__name__)

_SYNCS_AT_ONCE = 8
"""Files that wait for the disk side by side: it brings them there together."""
RECOVERY_TURN_SECS = 0.1
FEW_FRAMES = 10
"""Below, more are waited for before a segment is sealed."""

Owner: TypeAlias = tuple[str, str]
"""checkpoint_key, session_id."""
FrameName: TypeAlias = tuple[str, int]
"""session_id, frame_id."""


@dataclass
class BatchReport:
    """What became of a batch: all but the failed frames are on disk and may be acknowledged."""

    recorded: int = 0
    newest_frame_ids: dict[str, int] = field(default_factory=dict)
    """session id → highest frame id on disk, for the sessions that did not fail."""
    failed: dict[FrameName, RecordingError | MessageError] = field(default_factory=dict)
    """Why these frames are not on disk."""
    storage_fails: StorageFails | None = None
    """Why none can be written now."""

    def fail(self, session_id: str, frames: Sequence[RecordedFrame], error: RecordingError) -> None:
        self.failed |= {(session_id, frame.frame_id): error for frame in frames}


class Archive:
    """Writes below one recordings folder, which it locks: one recorder per folder.

    Raises RecordingError if another recorder has the folder, or it cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.data.recordings_dir
        self._settings = settings.recorder
        self._largest = settings.server
        self._max_state_dim = settings.max_state_dim
        self._sentinel = settings.sentinel_value
        self._sessions: dict[Owner, SessionRecording] = {}
        self._unannounced: list[SegmentInfo] = []
        self._max_open_segments = max_open_segments()
        self._storage_failed = False
        self.synced_at_secs = 0.0
        """Wall clock of the newest fsync; 0 before any."""
        self._syncs = ThreadPoolExecutor(_SYNCS_AT_ONCE, thread_name_prefix="fsync")
        self._lock = lock_recordings(self._root)
        self._unrecovered = {owner_of(part) for part in all_part_paths(self._root)}

    @property
    def open_segments(self) -> int:
        """How many segments are being written."""
        return sum(session.open_frame_count > 0 for session in list(self._sessions.values()))

    def recover(self) -> list[SegmentSealed]:
        """Seal what killed writers left below the folder: a few parts of it, until none is left.

        A session that is recorded has its parts sealed first, so this may take its time. Parts
        that cannot be dealt with now are taken up again when their session is. Raises StorageFails.
        """
        ends_at_secs = time.monotonic() + RECOVERY_TURN_SECS
        while self._unrecovered and time.monotonic() < ends_at_secs:
            owner = next(iter(self._unrecovered))
            self.ensure_space()
            try:
                if owner not in self._sessions:
                    self._recover_parts(owner)
            except StorageFails:
                raise
            except RecordingError as error:
                self._ensure_writable()
                log.warning("%s waits for recovery: %s", owner, error)
            self._unrecovered.discard(owner)
        return self._announce()

    @property
    def has_unrecovered(self) -> bool:
        """Whether `recover` has something left to do."""
        return bool(self._unrecovered)

    def ensure_space_for_any(self) -> None:
        """Raises DiskFull if the largest frame that can come would leave less free than that."""
        largest_bytes = growth_bytes(
            samples=self._largest.max_samples,
            keyframe_bytes=self._largest.max_message_bytes,
            frames=1,
            segments=1,
            max_state_dim=self._max_state_dim,
        )
        ensure_free_space(self._root, self._settings.min_free_bytes + largest_bytes)

    def ensure_space(self, frames: Sequence[FrameAccepted] = ()) -> None:
        """Raises DiskFull if these frames would leave less free than `recorder.min_free_bytes`.

        And StorageFails as long as what failed before still does.
        """
        if self._storage_failed:
            self._ensure_writable()
        needed_bytes = self._settings.min_free_bytes + self._growth_bytes(frames)
        ensure_free_space(self._root, needed_bytes)

    def make_ready(self, frame: FrameAccepted) -> None:
        """Do what takes long for a frame's session, so that writing the frame does not.

        What is wrong with the session is told when it is written to. Raises StorageFails.
        """
        self.ensure_space([frame])
        owner = frame.checkpoint_key, frame.session_id
        try:
            self._session(owner).active_at_secs = time.monotonic()
        except StorageFails as error:
            self._set_aside(owner, error)
            raise
        except RecordingError as error:
            self._set_aside(owner, error)

    def record(self, frames: Sequence[FrameAccepted]) -> BatchReport:
        """Write frames of any sessions; each is on disk once, however often it comes.

        A frame or a session that cannot be written is reported as failed and does not stop the
        others. Raises StorageFails where no session could be, DiskFull for want of space: then
        `seal_all`, wait, and come again with the same frames, of which some may be on disk.
        """
        self.ensure_space(frames)
        report = BatchReport()
        batches = self._by_owner(frames, report)
        writes: dict[Owner, _Write] = {}
        for owner, batch in batches.items():
            with self._failing(owner, batch, report):
                writes[owner] = self._write(owner, batch)
            if report.storage_fails:
                break
        for owner, write in writes.items():
            with self._failing(owner, batches[owner], report):
                self._finish(write, report)
        if report.storage_fails:
            raise report.storage_fails
        if any(isinstance(error, RecordingError) for error in report.failed.values()):
            self._ensure_writable()
        return report

    def seal_idle(self, now_secs: float) -> list[SegmentSealed]:
        """Seal the full segments, and those of sessions silent at this monotonic time."""
        for owner, session in list(self._sessions.items()):
            is_idle = now_secs - session.active_at_secs >= self._patience_secs(session)
            if is_idle or session.open_frame_count >= self._settings.segment_frames:
                self._seal(owner, forget=is_idle)
        return self._announce()

    def _patience_secs(self, session: SessionRecording) -> float:
        """With a session that is silent. It may be a slow one, which would make a file a frame."""
        lacking = FEW_FRAMES / session.open_frame_count if session.open_frame_count else 1
        return self._settings.segment_idle_secs * max(1, lacking)

    def seal_all(self) -> list[SegmentSealed]:
        """Seal every open segment, at the end or on a full disk."""
        for owner in list(self._sessions):
            self._seal(owner, forget=True)
        return self._announce()

    def close(self) -> None:
        """Unlock the folder for another recorder. Call `seal_all` first."""
        self._syncs.shutdown()
        os.close(self._lock)

    def _by_owner(
        self, messages: Sequence[FrameAccepted], report: BatchReport
    ) -> dict[Owner, list[RecordedFrame]]:
        together: dict[Owner, list[FrameAccepted]] = defaultdict(list)
        for message in messages:
            together[message.checkpoint_key, message.session_id].append(message)
        batches = {owner: self._recorded(some, report) for owner, some in together.items()}
        return {owner: batch for owner, batch in batches.items() if batch}

    def _recorded(
        self, messages: Sequence[FrameAccepted], report: BatchReport
    ) -> list[RecordedFrame]:
        """All together; where that fails each alone, so that the others are not lost by one."""
        try:
            frames = _recorded_frames(messages)
            for frame in frames:
                check_state_fits(frame, self._max_state_dim)
        except (MessageError, RecordingError) as error:
            if len(messages) > 1:
                return [frame for one in messages for frame in self._recorded([one], report)]
            report.failed[messages[0].session_id, messages[0].frame_id] = error
            return []
        return frames

    @contextmanager
    def _failing(
        self, owner: Owner, frames: Sequence[RecordedFrame], report: BatchReport
    ) -> Iterator[None]:
        """What goes wrong with a session is told in the report, and sets it aside."""
        try:
            yield
        except StorageFails as error:
            report.storage_fails = report.storage_fails or error
            self._set_aside(owner, error)
        except RecordingError as error:
            report.fail(owner[1], frames, error)
            self._set_aside(owner, error)
        except Exception as error:  # no memory, no thread: nobody knows what it has written
            log.exception("%s failed", owner)
            unforeseen = RecordingError(repr(error))
            report.fail(owner[1], frames, unforeseen)
            self._set_aside(owner, unforeseen)

    def _write(self, owner: Owner, frames: Sequence[RecordedFrame]) -> _Write:
        """Begin: while the disk takes its time, the next session's frames are written."""
        session = self._session(owner)
        session.active_at_secs = time.monotonic()
        unseen = session.unseen(frames)
        session.write(unseen)
        return _Write(session=session, unseen=unseen)

    def _finish(self, write: _Write, report: BatchReport) -> None:
        """Wait for the disk, and book the frames."""
        write.session.wait()
        self.synced_at_secs = time.time()
        metrics.FSYNC_AT_SECS.set(self.synced_at_secs)
        metrics.FRAMES_RECORDED.inc(len(write.unseen))
        metrics.RECORDED_BYTES.inc(sum(map(_frame_bytes, write.unseen)))
        report.recorded += len(write.unseen)
        report.newest_frame_ids[write.session.session_id] = write.session.newest_frame_id

    def _session(self, owner: Owner) -> SessionRecording:
        if owner not in self._sessions:
            self._make_room()
            self._recover_parts(owner)
            self._sessions[owner] = SessionRecording(
                self._root,
                checkpoint_key=owner[0],
                session_id=owner[1],
                max_state_dim=self._max_state_dim,
                sentinel=self._sentinel,
                syncs=self._syncs,
            )
        return self._sessions[owner]

    def _make_room(self) -> None:
        """Seal the session that is silent the longest where no more files can be open."""
        if len(self._sessions) >= self._max_open_segments:
            silent = min(self._sessions, key=lambda owner: self._sessions[owner].active_at_secs)
            self._seal(silent, forget=True)

    def _ensure_writable(self) -> None:
        """Tell what one session cannot do from what none can. Raises StorageFails."""
        self._storage_failed = True
        ensure_writable(self._root)
        self._storage_failed = False

    def _growth_bytes(self, frames: Sequence[FrameAccepted]) -> int:
        return growth_bytes(
            samples=sum(frame.sample_count for frame in frames),
            keyframe_bytes=sum(len(frame.keyframe) for frame in frames),
            frames=len(frames),
            segments=len({(frame.checkpoint_key, frame.session_id) for frame in frames}),
            max_state_dim=self._max_state_dim,
        )

    def _seal(self, owner: Owner, *, forget: bool) -> None:
        session = self._sessions[owner]
        try:
            info = session.seal()
        except RecordingError as error:
            self._set_aside(owner, error)
            return
        if info:
            self._unannounced.append(info)
        if forget:
            del self._sessions[owner]

    def _set_aside(self, owner: Owner, error: RecordingError) -> None:
        """Give up a segment that failed; the session's next frame begins another."""
        session = self._sessions.pop(owner, None)
        if session is None:  # it was when it was opened, or is set aside already
            log.warning("frames of %s are not recorded: %s", owner, error)
            return
        ids = {"session_id": owner[1]}
        log.error("recording of %s is set aside: %s", owner, error, extra=ids)
        self._unrecovered.add(owner)
        try:
            session.abandon()
        except RecordingError:
            log.exception("it waits until this process ends")

    def _recover_parts(self, owner: Owner) -> None:
        """Seal a session's parts: what is in them counts. Raises RecordingError if one stays."""
        for part in part_paths(session_folder(self._root, *owner)):
            outcome = recover_part(part)
            if outcome is None:
                raise RecordingError(f"{part} is being written by somebody else")
            if outcome.info:
                self._unannounced.append(outcome.info)
        self._unrecovered.discard(owner)

    def _announce(self) -> list[SegmentSealed]:
        sealed = [_announcement(info, self._root) for info in self._unannounced]
        metrics.SEGMENTS_SEALED.inc(len(sealed))
        self._unannounced.clear()
        return sealed


@dataclass(frozen=True, kw_only=True)
class _Write:
    """A session's part of a batch, on its way to the disk."""

    session: SessionRecording
    unseen: Sequence[RecordedFrame]


def _recorded_frames(messages: Sequence[FrameAccepted]) -> list[RecordedFrame]:
    """Raises MessageError or RecordingError if one of them cannot be recorded."""
    samples = unpack_together([(m.samples_bytes, m.footprint_bytes) for m in messages])
    return [
        RecordedFrame(
            frame_id=message.frame_id,
            coordinate_set_id=message.coordinate_set_id,
            width=message.width,
            height=message.height,
            samples=own_samples,
            state=message.state,
            client_time_secs=message.client_time_secs,
            received_at_secs=message.received_at_secs,
            keyframe_encoding=message.keyframe_encoding,
            keyframe=message.keyframe,
        )
        for message, own_samples in zip(messages, samples, strict=True)
    ]


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
