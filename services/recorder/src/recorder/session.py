"""One session on disk: the segment it is writing, and those that are sealed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

from sgaps.errors import RecordingCorrupt
from sgaps.recording.find import SegmentInfo, segment_info
from sgaps.recording.frames import RecordedFrame
from sgaps.recording.layout import next_segment_path, owner_of, sealed_paths, session_folder
from sgaps.recording.reader import SegmentReader
from sgaps.recording.writer import SegmentWriter

log = logging.getLogger(__name__)

MAX_FRAME_ID = 2**64 - 1


class SessionRecording:
    """Appends frames to the session's open segment. All methods raise RecordingError."""

    def __init__(
        self,
        root: Path,
        *,
        checkpoint_key: str,
        session_id: str,
        max_state_dim: int,
        sentinel: float,
        syncs: Executor,
    ) -> None:
        """`syncs` has the threads in which the disk is waited for."""
        self.active_at_secs = 0.0
        self._checkpoint_key = checkpoint_key
        self.session_id = session_id
        self._max_state_dim = max_state_dim
        self._sentinel = sentinel
        self._writer: SegmentWriter | None = None
        self._syncs = syncs
        self._synced: Future[None] | None = None
        self._folder = session_folder(root, checkpoint_key, session_id)
        self._spans: dict[Path, tuple[int, int]] = {}
        """Lowest and highest frame id of sealed segments that were looked into."""
        self.newest_frame_id = _newest_on_disk(self._folder)
        """Highest frame id on disk, or about to be; -1 without any."""

    @property
    def open_frame_count(self) -> int:
        """Frames in the segment that is being written."""
        return self._writer.frame_count if self._writer else 0

    def unseen(self, frames: Sequence[RecordedFrame]) -> list[RecordedFrame]:
        """The frames that are not on disk yet, in order, each id once."""
        known = self._find({f.frame_id for f in frames if f.frame_id <= self.newest_frame_id})
        first = {f.frame_id: f for f in reversed(frames) if f.frame_id not in known}
        return [frame for frame in frames if first.get(frame.frame_id) is frame]

    def write(self, frames: Sequence[RecordedFrame]) -> None:
        """Begin to bring unseen frames to the disk: they are there once `wait` returns."""
        self.wait()  # where a batch was cut off, what it began may still be on its way
        if not frames:
            return
        writer = self._writer = self._writer or self._next_writer()
        writer.append(frames)
        writer.flush()
        self._synced = self._syncs.submit(writer.sync)
        self.newest_frame_id = max(self.newest_frame_id, *(frame.frame_id for frame in frames))

    def wait(self) -> None:
        """Return when all that was written is on disk."""
        if self._synced is not None:
            self._synced.result()

    def seal(self) -> SegmentInfo | None:
        """Seal the open segment, if there is one; the next write begins another."""
        if self._writer is None:
            return None
        self.wait()
        path = self._writer.seal()
        self._writer = None
        return segment_info(path)

    def abandon(self) -> None:
        """Let go of a segment that failed; what it has is its part, for recovery."""
        if self._synced is not None:
            futures.wait([self._synced])
        if self._writer is not None:
            self._writer.abandon()

    def _next_writer(self) -> SegmentWriter:
        return SegmentWriter(
            next_segment_path(self._folder),
            checkpoint_key=self._checkpoint_key,
            session_id=self.session_id,
            max_state_dim=self._max_state_dim,
            sentinel=self._sentinel,
            newest_before=self.newest_frame_id if self.newest_frame_id >= 0 else None,
        )

    def _find(self, suspects: set[int]) -> set[int]:
        """Those of the ids that are on disk, looked for in the newest segment first."""
        found: set[int] = set()
        if suspects and self._writer is not None:
            found |= suspects.intersection(self._writer.frame_ids().tolist())
        sealed = reversed(sealed_paths(self._folder)) if found != suspects else iter(())
        while found != suspects and (path := next(sealed, None)) is not None:
            if self._may_have(path, suspects):
                found |= suspects.intersection(self._ids(path))
        return found

    def _may_have(self, path: Path, suspects: set[int]) -> bool:
        """Ids grow with the segments, so a segment that was opened once is rarely opened again."""
        lowest, highest = self._spans.get(path, (0, MAX_FRAME_ID))
        return any(lowest <= suspect <= highest for suspect in suspects)

    def _ids(self, path: Path) -> list[int]:
        try:
            with _own_segment(path) as reader:
                ids: list[int] = reader.frame_ids.tolist()
        except RecordingCorrupt:
            # Nobody can read these frames; one of them that comes again is recorded again.
            log.exception("a sealed segment has gone bad")
            ids = []
        self._spans[path] = (min(ids, default=MAX_FRAME_ID), max(ids, default=0))
        return ids


@contextmanager
def _own_segment(path: Path) -> Iterator[SegmentReader]:
    """Raises RecordingCorrupt where it cannot be read, or is another session's: that one's frames
    would be taken for this one's, which would then not be written."""
    with SegmentReader(path) as reader:
        owner = (reader.checkpoint_key, reader.session_id)
        if owner != owner_of(path):
            raise RecordingCorrupt(f"{path} belongs to {'/'.join(owner)}")
        yield reader


def _newest_on_disk(folder: Path) -> int:
    """Highest frame id in the sealed segments: the newest one says what those before it have."""
    newest = -1
    for path in reversed(sealed_paths(folder)):
        try:
            with _own_segment(path) as reader:
                ids, before = reader.frame_ids, reader.newest_before
        except RecordingCorrupt as error:
            log.error("its frames count as not recorded: %s", error)  # noqa: TRY400 - it says all
            continue
        newest = max(newest, int(ids.max(initial=0)) if len(ids) else -1)
        if before is not None:
            return max(newest, before)
    return newest
