"""Reading sealed segments. What is no valid segment is RecordingCorrupt, however broken it is."""

from __future__ import annotations

import ctypes
import errno
import logging
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.protocol.ids import is_valid_id
from sgaps.recording.disk import is_kept_open, memory_folder, system_errno
from sgaps.recording.frames import RecordedFrame, samples_of
from sgaps.recording.layout import (
    ENCODINGS,
    H5_ERRORS,
    INDEX_DTYPE,
    SCHEMA_VERSION,
    SEALED_SUFFIX,
    H5Object,
    check_id,
    group_name,
    segment_number,
)

log = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 4 * 2**20
"""To read a row its whole chunk is unpacked. Ours have a megabyte, of the longest states."""
_corrupt: dict[Path, tuple[int, int]] = {}
"""Size and time of files that turned out to be no valid segments: who looks for news again and
again, as the trainer does, need not hear of them each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentInfo:
    """A sealed segment, as one needs it to choose what to read."""

    path: Path
    checkpoint_key: str
    session_id: str
    number: int
    frame_count: int
    keyframe_count: int
    size_bytes: int
    modified_at_ns: int
    """Of the file, since 1970: with its size it tells it from another of the same name."""

    def is_unchanged(self) -> bool:
        """Whether the file is there, and no other one by now."""
        return _size_and_time(self.path) == (self.size_bytes, self.modified_at_ns)


class SegmentReader:
    """The frames of one sealed segment, by position in the order of their recording.

    Raises RecordingCorrupt if the file is no valid segment, RecordingError if the system cannot
    read it. Samples and keyframes are read when asked for, the rest is kept in memory.
    With `salvage` it reads a part that a killed writer left, or a damaged segment: those frames
    whose rows of the index are valid. With a `sentinel` missing values of the state are that, and
    not what they were when it was recorded.
    """

    def __init__(self, path: Path, *, salvage: bool = False, sentinel: float | None = None) -> None:
        self.path = path
        self._file = _open(path, salvage=salvage)
        try:
            self._read_header()
            self._read_index(salvage=salvage)
            if sentinel is not None:
                self._take_sentinel(sentinel)
        except H5_ERRORS as error:
            self.close()
            raise _blame(path, error) from error

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[RecordedFrame]:
        return (self.read(position) for position in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frame_ids(self) -> NDArray[np.uint64]:
        """(F,) frame ids in the order of recording."""
        ids: NDArray[np.uint64] = self._index["frame_id"]
        return ids

    @property
    def received_at_secs(self) -> NDArray[np.float64]:
        """(F,) Unix time of the gateway, or of whoever captured the frames."""
        times: NDArray[np.float64] = self._timestamps[:, 1]
        return times

    @property
    def sample_counts(self) -> NDArray[np.uint32]:
        """(F,) samples of each frame."""
        counts: NDArray[np.uint32] = self._index["pixels_count"]
        return counts

    @property
    def keyframe_positions(self) -> NDArray[np.intp]:
        """Positions of the frames that have a keyframe."""
        return np.flatnonzero(self._index["keyframe_encoding"])

    def resolution(self, position: int) -> tuple[int, int]:
        """Width and height of the frame at a position."""
        width, height = self._resolution[position]
        return int(width), int(height)

    def state(self, position: int) -> NDArray[np.float32]:
        """(S,) state vector of the frame at a position."""
        state: NDArray[np.float32] = self._states[
            position, : int(self._index[position]["state_count"])
        ]
        return state

    def read(self, position: int) -> RecordedFrame:
        """The frame at a position, 0 ≤ position < len. Raises RecordingCorrupt."""
        row = self._index[position]
        try:
            frame = RecordedFrame(
                frame_id=int(row["frame_id"]),
                coordinate_set_id=int(row["coordinate_set_id"]),
                width=int(self._resolution[position, 0]),
                height=int(self._resolution[position, 1]),
                samples=self._samples(row),
                state=self.state(position),
                client_time_secs=float(self._timestamps[position, 0]),
                received_at_secs=float(self._timestamps[position, 1]),
                keyframe_encoding=ENCODINGS[row["keyframe_encoding"]],
                keyframe=_run(
                    self._keyframes, row["keyframe_offset"], row["keyframe_size"]
                ).tobytes(),
            )
            samples_of([frame])
        except H5_ERRORS as error:
            raise _blame(self.path, error) from error
        except RecordingError as error:
            raise RecordingCorrupt(f"{self.path}: {error}") from error
        return frame

    def _samples(self, row: np.void) -> NDArray[np.float32]:
        """(N, 4)."""
        run = (row["pixels_offset"], row["pixels_count"])
        pixels = _run(self._pixels, *run)
        if self._footprints is None:
            return np.column_stack([pixels, np.ones(len(pixels), np.float32)])
        return np.column_stack([pixels, _run(self._footprints, *run).astype(np.float32)])

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _read_header(self) -> None:
        attributes = self._file.attrs
        if attributes["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {attributes['schema_version']!r}")
        self.checkpoint_key = _id(attributes["checkpoint_key"])
        self.session_id = _id(attributes["session_id"])
        self.max_state_dim = int(attributes["max_state_dim"])
        self.sentinel = float(attributes["sentinel"])
        newest = attributes.get("newest_before")
        self.newest_before = None if newest is None else int(newest)
        """Highest frame id in the segments before; None in the first one, and in older files."""

    def _read_index(self, *, salvage: bool) -> None:
        group = self._file
        for name in group_name(self.checkpoint_key, self.session_id).strip("/").split("/"):
            group = _own(group, name)
        limit_bytes = self.path.stat().st_size
        datasets = {
            name: _dataset(group, name, dtype, row_shape, limit_bytes)
            for name, (dtype, row_shape) in _datasets(self.max_state_dim).items()
            # Which older files lack.
            if name != "footprints" or group.get(name, getlink=True) is not None
        }
        self._footprints = datasets.get("footprints")
        self._pixels, self._keyframes = datasets["pixels"], datasets["keyframes"]
        index = datasets["index"][:]  # (F,)
        self.row_count = len(index)
        """Frames that were recorded, valid or not."""
        rows = ("state_vectors", "resolution", "timestamps")
        self._states, self._resolution, self._timestamps = (datasets[name][:] for name in rows)
        valid = self._valid(index)
        if not salvage and not valid.all():
            raise ValueError(f"index row {int(np.argmin(valid))} points nowhere")
        kept = np.flatnonzero(valid)  # (F,)
        self._index = index[kept]
        self._states = self._states[kept]  # (F, max_state_dim)
        self._resolution = self._resolution[kept]  # (F, 2)
        self._timestamps = self._timestamps[kept]  # (F, 2)

    def _take_sentinel(self, sentinel: float) -> None:
        self._states[self._states == np.float32(self.sentinel)] = sentinel
        self.sentinel = sentinel

    def _sample_count(self) -> int:
        footprints = self._pixels if self._footprints is None else self._footprints
        return min(len(self._pixels), len(footprints))

    def _valid(self, index: NDArray[np.void]) -> NDArray[np.bool_]:
        """(F,) whether all that an index row points to is there."""
        rows = min(len(self._states), len(self._resolution), len(self._timestamps))
        has_keyframe = index["keyframe_encoding"] != 0
        valid: NDArray[np.bool_] = (
            (np.arange(len(index)) < rows)
            & _inside(index["pixels_offset"], index["pixels_count"], self._sample_count())
            & _inside(index["keyframe_offset"], index["keyframe_size"], len(self._keyframes))
            & (index["keyframe_encoding"] < len(ENCODINGS))
            & (has_keyframe == (index["keyframe_size"] != 0))
            & (index["state_count"] <= self.max_state_dim)
        )
        return valid


def segment_info(path: Path) -> SegmentInfo:
    """Look into a sealed segment. Raises RecordingError, RecordingCorrupt."""
    number = segment_number(path)
    if number is None or path.suffix != SEALED_SUFFIX:
        if not path.exists():
            raise RecordingError(f"there is no {path}: name a folder of recordings, or a segment")
        raise RecordingCorrupt(f"{path} has not the name of a sealed segment")
    with SegmentReader(path) as reader:
        try:
            status = path.stat()
        except OSError as error:  # a recorder has deleted it
            raise _blame(path, error) from error
        return SegmentInfo(
            path=path,
            checkpoint_key=reader.checkpoint_key,
            session_id=reader.session_id,
            number=number,
            frame_count=len(reader),
            keyframe_count=len(reader.keyframe_positions),
            size_bytes=status.st_size,
            modified_at_ns=status.st_mtime_ns,
        )


def find_segments(
    root: Path, checkpoint_key: str | None = None, *, known: Iterable[SegmentInfo] = ()
) -> list[SegmentInfo]:
    """All sealed segments under a recordings folder, in order; unreadable ones are logged.

    Of the known ones those that are as they were are not opened again, nor are corrupt ones, which
    are logged once. Raises RecordingError on an illegal key.
    """
    key = "*" if checkpoint_key is None else check_id(checkpoint_key)
    by_path = {segment.path: segment for segment in known}
    found = []
    for path in sorted(root.glob(f"{key}/*/*{SEALED_SUFFIX}")):
        before = by_path.get(path)
        segment = before if before and before.is_unchanged() else _look_into(path)
        if segment:
            found.append(segment)
    return found


def _look_into(path: Path) -> SegmentInfo | None:
    state = _size_and_time(path)
    if state and _corrupt.get(path) == state:
        return None
    try:
        return segment_info(path)
    except RecordingError as error:
        log.warning("a segment is left out: %s", error)
        if state and isinstance(error, RecordingCorrupt):
            _corrupt[path] = state
    return None


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """Bytes and ns; None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _blame(path: Path, error: Exception) -> RecordingError:
    """Tell a broken file from a system that cannot read it now (descriptors, rights, a disk)."""
    # A lie of the file about an offset ends in EINVAL.
    if system_errno(error) in (None, errno.EINVAL):
        return RecordingCorrupt(f"{path} is no valid segment: {error}")
    return RecordingError(f"cannot read {path}: {error}")


def _open(path: Path, *, salvage: bool) -> H5Object:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no plain file")
        return _open_part(path) if salvage else h5py.File(path, "r", locking=False)
    except H5_ERRORS as error:
        raise _blame(path, error) from error


def _open_part(path: Path) -> H5Object:
    """Open what a killed SWMR writer left, which HDF5 opens for SWMR readers only.

    Such a reader waits for a live writer to mend a wrong checksum: 100 attempts, each after twice
    the sleep of the one before, which is for ever. One attempt is a setting h5py does not have.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_file_locking(False, True)
    hdf5 = ctypes.CDLL(h5py.h5p.__file__)
    if hdf5.H5Pset_metadata_read_attempts(ctypes.c_int64(access.id), ctypes.c_uint(1)) < 0:
        raise RecordingError("HDF5 refuses to read metadata once only")
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    with _readable_path(path) as readable:
        return h5py.File(h5py.h5f.open(os.fsencode(readable), flags, fapl=access))


@contextmanager
def _readable_path(path: Path) -> Iterator[Path]:
    """The path, or that of a copy for a file that HDF5 would confuse with another."""
    if not is_kept_open(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=memory_folder()) as copy, path.open("rb") as file:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield Path(copy.name)


def _id(value: object) -> str:
    if not isinstance(value, str) or not is_valid_id(value):
        raise ValueError(f"illegal id {value!r}")
    return value


def _datasets(max_state_dim: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Type and row shape of every dataset."""
    return {
        "pixels": (np.dtype("<f4"), (3,)),
        "footprints": (np.dtype("u1"), ()),
        "keyframes": (np.dtype("u1"), ()),
        "state_vectors": (np.dtype("<f4"), (max_state_dim,)),
        "resolution": (np.dtype("<u4"), (2,)),
        "timestamps": (np.dtype("<f8"), (2,)),
        "index": (INDEX_DTYPE, ()),
    }


def _own(group: H5Object, name: str) -> H5Object:
    """What a group has of this name: a link may lead to another file, or to a FIFO."""
    link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
    if not isinstance(link, h5py.HardLink):
        raise TypeError(f"{name} is not in this file")
    return group[name]


def _dataset(
    group: H5Object,
    name: str,
    dtype: np.dtype[Any],
    row_shape: tuple[int, ...],
    limit_bytes: int,
) -> H5Object:
    """A dataset of this type that can only be what it claims.

    Chunked: other layouts can name any file of the machine as their storage. No larger than the
    file: its shape may be a lie, and it would be read into memory, a chunk at a time.
    """
    dataset = _own(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise TypeError(f"{name} is no dataset")
    if dataset.dtype != dtype or dataset.ndim < 1 or dataset.shape[1:] != row_shape:
        raise ValueError(f"{name} is {dataset.dtype} {dataset.shape}")
    # Not `nbytes`, which wraps around at 64 bits.
    size_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if dataset.chunks is None or size_bytes > limit_bytes or chunk_bytes > MAX_CHUNK_BYTES:
        raise ValueError(f"{name} is not stored as it should be")
    return dataset


def _inside(
    offsets: NDArray[np.uint64], counts: NDArray[np.uint32], length: int
) -> NDArray[np.bool_]:
    """Whether offset + count ≤ length, where the sum might wrap around."""
    end = np.uint64(length)
    return (offsets <= end) & (counts <= end - np.minimum(offsets, end))


def _run(dataset: H5Object, offset: np.uint64, count: np.uint32) -> NDArray[Any]:
    start = int(offset)
    rows: NDArray[Any] = dataset[start : start + int(count)]
    return rows
