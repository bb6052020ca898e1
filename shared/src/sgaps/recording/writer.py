"""Writing one segment: append, sync, seal; or abandon, for recovery to pick up.

The file is written in HDF5's SWMR mode: metadata is written in such an order that the file can
be read after every single write, so a kill at any instant leaves all that was synced before.
The default format with a flush is torn by a kill in the middle of the flush.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from sgaps.durable import fsync_folder, make_folder
from sgaps.errors import RecordingError
from sgaps.locks import try_lock
from sgaps.recording.column import Column
from sgaps.recording.disk import keep_open, scratch_descriptor, write_error
from sgaps.recording.frames import (
    RecordedFrame,
    check_state_fits,
    checksums_of,
    samples_of,
)
from sgaps.recording.layout import (
    ENCODINGS,
    FRAMES_PER_CHUNK,
    H5_ERRORS,
    INDEX_DTYPE,
    PART_SUFFIX,
    SAMPLES_PER_CHUNK,
    SCHEMA_VERSION,
    STATES_PER_CHUNK,
    UNWRITTEN,
    H5Object,
    check_id,
    group_name,
    with_suffix_added,
)

# The oldest format with SWMR: any HDF5 since 1.10 reads it.
_LIBVER = ("v110", "v110")
# The default is 8 MB of written chunks and 64 kB of slots, for each dataset of each session.
_CHUNK_CACHE_BYTES = 128 * 1024
_CHUNK_CACHE_SLOTS = 101
# A kill can tear a write between two pages of memory, and torn metadata makes the file unreadable.
# Everything that is rewritten in place is smaller than this, so aligned it lies in one page.
_ALIGNMENT_BYTES = 512
_KEYFRAME_BYTES_PER_CHUNK = 64 * 1024
_SAMPLE_BYTES = 3 * 4 + 1
_METADATA_BYTES = 64 * 1024


def growth_bytes(
    *, samples: int, keyframe_bytes: int, frames: int, segments: int, max_state_dim: int
) -> int:
    """What so many segments take on disk at most, more than before, for so many more frames."""
    row_bytes = INDEX_DTYPE.itemsize + 2 * 4 + 2 * 8 + 2 * 4
    state_bytes = max_state_dim * 4
    # A chunk is there as a whole as soon as anything is in it.
    chunks_bytes = (
        SAMPLES_PER_CHUNK * _SAMPLE_BYTES
        + _KEYFRAME_BYTES_PER_CHUNK
        + STATES_PER_CHUNK * state_bytes
        + FRAMES_PER_CHUNK * row_bytes
    )
    return (
        samples * _SAMPLE_BYTES
        + keyframe_bytes
        + frames * (row_bytes + state_bytes)
        + segments * (chunks_bytes + _METADATA_BYTES)
    )


class SegmentWriter:
    """Writes `<path>.part`, and renames it to `path` when sealed.

    All methods raise RecordingError, on a full disk DiskFull; after one, only `abandon` is left to
    do. (A state vector that is too long, and a sample that could not be read back, are refused
    before anything is written, and do no harm.)
    """

    def __init__(
        self,
        path: Path,
        *,
        checkpoint_key: str,
        session_id: str,
        max_state_dim: int,
        sentinel: float,
        newest_before: int | None = None,
        suffix: str = PART_SUFFIX,
    ) -> None:
        """`newest_before`: highest frame id in the segments before, which spares opening them."""
        group = group_name(check_id(checkpoint_key), check_id(session_id))
        if max_state_dim < 1:
            raise RecordingError(f"max_state_dim is {max_state_dim}; it must be positive")
        self.path = path
        self.part_path = with_suffix_added(path, suffix)
        self.frame_count = 0
        """Frames appended, synced or not."""
        self._max_state_dim = max_state_dim
        self._sentinel = sentinel
        self._unflushed: list[NDArray[np.void]] = []
        self._usable = True
        self._file: H5Object = None
        with self._failing("create"):
            self._descriptor = _claim(path, self.part_path)
        try:
            with self._failing("create"):
                self._create(group, checkpoint_key, session_id, newest_before)
                fsync_folder(path.parent)
        except RecordingError:
            with suppress(OSError):  # it stays where a disk takes nothing, not even this
                self.part_path.unlink(missing_ok=True)
            self.abandon()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, while the segment is open."""
        return os.fstat(self._descriptor).st_size

    def frame_ids(self) -> NDArray[np.uint64]:
        """(F,) ids of all appended frames, read back from the file."""
        with self._failing("read the index of"):
            on_disk: NDArray[np.uint64] = self._index.dataset.fields("frame_id")[:]
        return np.concatenate([on_disk, *(rows["frame_id"] for rows in self._unflushed)])

    def append(self, frames: Sequence[RecordedFrame]) -> None:
        """Hand frames to HDF5, one write per dataset; they exist once `sync` returns."""
        if not frames:
            return
        for frame in frames:
            check_state_fits(frame, self._max_state_dim)
        samples = samples_of(frames)
        with self._failing("append to"):
            rows = self._index_rows(frames)
            self._pixels.extend(samples[:, :3])
            self._footprints.extend(samples[:, 3])
            keyframes = b"".join(frame.keyframe for frame in frames)
            self._keyframes.extend(np.frombuffer(keyframes, np.uint8))
            self._states.extend(self._state_rows(frames))
            self._resolution.extend([(frame.width, frame.height) for frame in frames])
            times = [(frame.client_time_secs, frame.received_at_secs) for frame in frames]
            self._timestamps.extend(times)
            self._checksums.extend([checksums_of(frame) for frame in frames])
        self._unflushed.append(rows)
        self.frame_count += len(frames)

    def flush(self) -> None:
        """Hand all appended frames to the system: first data, then index."""
        if not self._unflushed:
            return
        with self._failing("flush"):
            for column in self._data:
                column.flush()
            self._index.extend(np.concatenate(self._unflushed))
            self._index.flush()
        self._unflushed.clear()

    def sync(self) -> None:
        """Return when all appended frames are on disk.

        Behind a `flush` any thread may wait for it: HDF5 has no part in it.
        """
        self.flush()
        with self._failing("sync"):
            os.fsync(self._descriptor)

    def seal(self) -> Path:
        """Flush, close, sync, and give the segment its final name, which it keeps unchanged."""
        self.flush()
        with self._failing("seal"):
            self._close()
            os.fsync(self._descriptor)
            self.part_path.rename(self.path)
            fsync_folder(self.path.parent)
        self._release()
        return self.path

    def abandon(self) -> None:
        """Leave the part on disk as it is, for recovery, and write nothing more to it.

        HDF5 writes while it closes, and where that fails (a full disk) it crashes the interpreter
        later; so its descriptor is first pointed at memory.
        """
        self._usable = False
        try:
            if self._file:
                _point_at_memory(self._file.id.get_vfd_handle())
                self._close()
        except H5_ERRORS as error:
            raise RecordingError(f"cannot let go of {self.part_path}: {error}") from error
        finally:
            self._release()

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        """Turn what h5py and the system raise into RecordingError, and give the file up."""
        if not self._usable:
            raise RecordingError(f"{self.part_path} is closed, or failed before")
        try:
            yield
        except H5_ERRORS as error:
            self._usable = False
            raise write_error(f"cannot {doing} {self.part_path}", error) from error

    def _close(self) -> None:
        """Close the HDF5 file; never twice, which would crash after a failure.

        If it fails, HDF5 keeps the file and may write to it at any time: into memory.
        """
        file, self._file = self._file, None
        handle = file.id.get_vfd_handle()
        opened = os.fstat(handle)
        try:
            file.close()
        except H5_ERRORS:
            keep_open(self.part_path)
            with suppress(OSError):
                if os.path.samestat(os.fstat(handle), opened):
                    _point_at_memory(handle)
            raise

    def _release(self) -> None:
        self._usable = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _create(
        self, group_name: str, checkpoint_key: str, session_id: str, newest_before: int | None
    ) -> None:
        self._file = h5py.File(
            self.part_path,
            "w",
            libver=_LIBVER,
            locking=False,
            rdcc_nbytes=_CHUNK_CACHE_BYTES,
            rdcc_nslots=_CHUNK_CACHE_SLOTS,
            alignment_threshold=1,
            alignment_interval=_ALIGNMENT_BYTES,
        )
        self._file.attrs.update(
            schema_version=SCHEMA_VERSION,
            checkpoint_key=checkpoint_key,
            session_id=session_id,
            max_state_dim=self._max_state_dim,
            sentinel=self._sentinel,
        )
        if newest_before is not None:
            self._file.attrs["newest_before"] = np.uint64(newest_before)
        self._create_datasets(self._file.create_group(group_name))
        self._file.swmr_mode = True

    def _create_datasets(self, group: H5Object) -> None:
        width = self._max_state_dim
        self._pixels = Column(group, "pixels", "<f4", (SAMPLES_PER_CHUNK, 3))
        self._footprints = Column(group, "footprints", "u1", (SAMPLES_PER_CHUNK,), 1)
        self._keyframes = Column(group, "keyframes", "u1", (_KEYFRAME_BYTES_PER_CHUNK,))
        self._states = Column(
            group, "state_vectors", "<f4", (STATES_PER_CHUNK, width), self._sentinel
        )
        self._resolution = Column(group, "resolution", "<u4", (FRAMES_PER_CHUNK, 2))
        self._timestamps = Column(group, "timestamps", "<f8", (FRAMES_PER_CHUNK, 2))
        self._checksums = Column(group, "checksums", "<u4", (FRAMES_PER_CHUNK, 2))
        self._data = (
            self._pixels,
            self._footprints,
            self._keyframes,
            self._states,
            self._resolution,
            self._timestamps,
            self._checksums,
        )
        unwritten = np.zeros((), INDEX_DTYPE)
        unwritten["pixels_count"] = UNWRITTEN
        self._index = Column(group, "index", INDEX_DTYPE, (FRAMES_PER_CHUNK,), unwritten)

    def _index_rows(self, frames: Sequence[RecordedFrame]) -> NDArray[np.void]:
        rows = np.zeros(len(frames), INDEX_DTYPE)  # (B,)
        rows["frame_id"] = [frame.frame_id for frame in frames]
        rows["coordinate_set_id"] = [frame.coordinate_set_id for frame in frames]
        rows["state_count"] = [len(frame.state) for frame in frames]
        rows["pixels_count"] = [len(frame.samples) for frame in frames]
        rows["pixels_offset"] = _offsets(self._pixels, rows["pixels_count"])
        rows["keyframe_size"] = [len(frame.keyframe) for frame in frames]
        rows["keyframe_offset"] = _offsets(self._keyframes, rows["keyframe_size"])
        rows["keyframe_encoding"] = [ENCODINGS.index(frame.keyframe_encoding) for frame in frames]
        return rows

    def _state_rows(self, frames: Sequence[RecordedFrame]) -> NDArray[np.float32]:
        rows = np.full((len(frames), self._max_state_dim), self._sentinel, np.float32)
        for row, frame in zip(rows, frames, strict=True):
            row[: len(frame.state)] = frame.state
        return rows


def _point_at_memory(descriptor: int) -> None:
    """What is written to this open file from here on reaches no disk."""
    scratch = scratch_descriptor()
    os.dup2(scratch, descriptor, inheritable=False)
    os.close(scratch)


def _claim(path: Path, part_path: Path) -> int:
    """Create the part and lock it: recovery leaves a part alone whose writer lives."""
    make_folder(path.parent)
    if path.exists():
        raise FileExistsError(f"{path} is sealed")
    descriptor = os.open(part_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        if not try_lock(descriptor):
            raise BlockingIOError(f"{part_path} is locked")
    except OSError:
        os.close(descriptor)
        part_path.unlink(missing_ok=True)  # else whoever tries again would find it there
        raise
    return descriptor


def _offsets(column: Column, counts: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """(B,) where each of the next rows' runs begins in a flat column."""
    ends = np.cumsum(counts, dtype=np.uint64)
    return ends - counts + np.uint64(column.length)
