"""Reading sealed segments. What is no valid segment is RecordingCorrupt, however broken it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.protocol.ids import is_valid_id
from sgaps.recording.datasets import OF_FRAMES, datasets_of, inside, own, rows_of, run_of
from sgaps.recording.frames import RecordedFrame, checksums_of, samples_of
from sgaps.recording.layout import (
    ENCODINGS,
    H5_ERRORS,
    SCHEMA_VERSION,
    H5Object,
    group_name,
)
from sgaps.recording.opening import blame, open_untrusted

UNSYNCED_BYTES = 64 * 2**20
"""By so much a power cut may leave a file shorter than it says; more than a batch has."""


class SegmentReader:
    """The frames of one sealed segment, by position in the order of their recording.

    Raises RecordingCorrupt if the file is no valid segment, RecordingError if the system cannot
    read it. Samples and keyframes are read when asked for, the rest is kept in memory.
    With `salvage` it reads a part that a killed writer left, or a damaged segment: those frames
    whose rows of the index are valid and can be reached. With a `sentinel` missing values of the
    state are that, and not what they were when it was recorded.
    """

    def __init__(self, path: Path, *, salvage: bool = False, sentinel: float | None = None) -> None:
        self.path = path
        self._file = open_untrusted(path, salvage=salvage)
        try:
            self._read_header()
            self._read_index(salvage=salvage)
            if sentinel is not None:
                self._take_sentinel(sentinel)
        except H5_ERRORS as error:
            self.close()
            raise blame(path, error) from error

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

    def read(self, position: int, *, keyframe: bool = True) -> RecordedFrame:
        """The frame at a position, 0 ≤ position < len, or what it has beside its keyframe.

        Raises RecordingCorrupt where it is not what was written.
        """
        row = self._index[position]
        try:
            frame = RecordedFrame(
                frame_id=int(row["frame_id"]),
                coordinate_set_id=int(row["coordinate_set_id"]),
                width=int(self._resolution[position, 0]),
                height=int(self._resolution[position, 1]),
                samples=self._samples(row),
                state=self._recorded_states[position, : int(row["state_count"])],
                client_time_secs=float(self._timestamps[position, 0]),
                received_at_secs=float(self._timestamps[position, 1]),
                keyframe_encoding=ENCODINGS[row["keyframe_encoding"]] if keyframe else "",
                keyframe=self._keyframe(row) if keyframe else b"",
            )
            samples_of([frame])
            self._check_sums(position, frame, keyframe=keyframe)
        except H5_ERRORS as error:
            raise blame(self.path, error) from error
        except RecordingError as error:
            raise RecordingCorrupt(f"{self.path}: {error}") from error
        if self._states is self._recorded_states:
            return frame
        return replace(frame, state=self.state(position))

    def _check_sums(self, position: int, frame: RecordedFrame, *, keyframe: bool) -> None:
        """Raises RecordingError."""
        if self._checksums is None:
            return
        data, picture = checksums_of(frame)
        if data != self._checksums[position, 0]:
            raise RecordingError(f"frame {frame.frame_id}: it is not what was written")
        if keyframe and picture != self._checksums[position, 1]:
            raise RecordingError(f"frame {frame.frame_id}: its keyframe is not what was written")

    def _keyframe(self, row: np.void) -> bytes:
        return run_of(self._keyframes, row["keyframe_offset"], row["keyframe_size"]).tobytes()

    def _samples(self, row: np.void) -> NDArray[np.float32]:
        """(N, 4)."""
        run = (row["pixels_offset"], row["pixels_count"])
        pixels = run_of(self._pixels, *run)
        if self._footprints is None:
            return np.column_stack([pixels, np.ones(len(pixels), np.float32)])
        return np.column_stack([pixels, run_of(self._footprints, *run).astype(np.float32)])

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
            group = own(group, name)
        limit_bytes = self.path.stat().st_size + (UNSYNCED_BYTES if salvage else 0)
        datasets = datasets_of(group, self.max_state_dim, limit_bytes)
        self._footprints = datasets.get("footprints")
        self._pixels, self._keyframes = datasets["pixels"], datasets["keyframes"]
        self.row_count = len(datasets["index"])
        """Frames that were recorded, valid or not."""
        of_frames = {name: datasets[name] for name in OF_FRAMES if name in datasets}
        self._take_rows(of_frames, salvage=salvage)

    def _take_rows(self, datasets: dict[str, H5Object], *, salvage: bool) -> None:
        count = min(map(len, datasets.values()))
        if not salvage and count < self.row_count:
            raise ValueError(f"index row {count} points nowhere")
        read = {
            name: rows_of(dataset, count, salvage=salvage) for name, dataset in datasets.items()
        }
        valid = self._valid(read["index"][0])
        if not salvage and not valid.all():
            raise ValueError(f"index row {int(np.argmin(valid))} points nowhere")
        kept = np.flatnonzero(np.all([valid, *(reached for _, reached in read.values())], axis=0))
        rows = {name: rows[kept] for name, (rows, _) in read.items()}
        self._index = rows["index"]  # (F,)
        self._states = self._recorded_states = rows["state_vectors"]  # (F, max_state_dim)
        self._resolution = rows["resolution"]  # (F, 2)
        self._timestamps = rows["timestamps"]  # (F, 2)
        self._checksums = rows.get("checksums")  # (F, 2)

    def _take_sentinel(self, sentinel: float) -> None:
        if sentinel == self.sentinel:
            return
        is_missing = self._recorded_states == np.float32(self.sentinel)
        self._states = np.where(is_missing, np.float32(sentinel), self._recorded_states)
        self.sentinel = sentinel

    def _sample_count(self) -> int:
        footprints = self._pixels if self._footprints is None else self._footprints
        return min(len(self._pixels), len(footprints))

    def _valid(self, index: NDArray[np.void]) -> NDArray[np.bool_]:
        """(F,) whether all that an index row points to is there."""
        has_keyframe = index["keyframe_encoding"] != 0
        valid: NDArray[np.bool_] = (
            inside(index["pixels_offset"], index["pixels_count"], self._sample_count())
            & inside(index["keyframe_offset"], index["keyframe_size"], len(self._keyframes))
            & (index["keyframe_encoding"] < len(ENCODINGS))
            & (has_keyframe == (index["keyframe_size"] != 0))
            & (index["state_count"] <= self.max_state_dim)
        )
        return valid


def _id(value: object) -> str:
    if not isinstance(value, str) or not is_valid_id(value):
        raise ValueError(f"illegal id {value!r}")
    return value
