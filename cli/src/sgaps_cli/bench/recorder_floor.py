"""The least that any recorder does: `python -m sgaps_cli.bench.recorder_floor FRAMES`.

The arrays of frames are at hand. Each batch is appended by h5py to one file for each session, in
the datasets that a segment has, and each file that gained something is fsynced, as the recorder
does it. Nothing is read, decoded, checked, looked up, kept readable by readers, or announced.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sgaps.messages import FrameAccepted
from sgaps.recording.layout import (
    FRAMES_PER_CHUNK,
    INDEX_DTYPE,
    SAMPLES_PER_CHUNK,
    STATES_PER_CHUNK,
)
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.processes import Meter
from sgaps_cli.bench.report import Run

BATCH = 256
STATE_VALUES = 64
SHAPES: Mapping[str, tuple[Any, tuple[int, ...]]] = {
    "pixels": ("<f4", (SAMPLES_PER_CHUNK, 3)),
    "footprints": ("u1", (SAMPLES_PER_CHUNK,)),
    "state_vectors": ("<f4", (STATES_PER_CHUNK, STATE_VALUES)),
    "resolution": ("<u4", (FRAMES_PER_CHUNK, 2)),
    "timestamps": ("<f8", (FRAMES_PER_CHUNK, 2)),
    "index": (INDEX_DTYPE, (FRAMES_PER_CHUNK,)),
}
"""Of each dataset: the type, and the shape of a chunk."""
Rows = dict[str, NDArray[Any]]


class BareFile:
    """A file that grows."""

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, "w", libver="v110")
        self._datasets = {
            name: self._file.create_dataset(
                name, (0, *chunk[1:]), dtype, chunks=chunk, maxshape=(None, *chunk[1:])
            )
            for name, (dtype, chunk) in SHAPES.items()
        }
        self._descriptor = os.open(path, os.O_RDWR)

    def append(self, rows: Rows) -> None:
        """Returns when they are on disk."""
        for name, array in rows.items():
            dataset = self._datasets[name]
            start = len(dataset)
            dataset.resize(start + len(array), axis=0)
            dataset[start:] = array
        self._file.flush()
        os.fsync(self._descriptor)

    def close(self) -> None:
        self._file.close()
        os.close(self._descriptor)


def batches(frames: Sequence[FrameAccepted]) -> Iterator[list[tuple[str, Rows]]]:
    """What each session gains in each batch."""
    for start in range(0, len(frames), BATCH):
        together: dict[str, list[FrameAccepted]] = defaultdict(list)
        for frame in frames[start : start + BATCH]:
            together[frame.session_id].append(frame)
        yield [(session, _rows(some)) for session, some in together.items()]


def _rows(frames: Sequence[FrameAccepted]) -> Rows:
    samples = np.concatenate([frame.samples for frame in frames])
    states = np.zeros((len(frames), STATE_VALUES), np.float32)
    for row, frame in zip(states, frames, strict=True):
        row[: len(frame.state)] = frame.state
    index = np.zeros(len(frames), INDEX_DTYPE)
    index["frame_id"] = [frame.frame_id for frame in frames]
    index["pixels_count"] = [frame.sample_count for frame in frames]
    return {
        "pixels": samples[:, :3],
        "footprints": samples[:, 3].astype(np.uint8),
        "state_vectors": states,
        "resolution": np.array([(frame.width, frame.height) for frame in frames], np.uint32),
        "timestamps": np.array([(f.client_time_secs, f.received_at_secs) for f in frames]),
        "index": index,
    }


def main(count: int) -> Run:
    waiting = list(batches(accepted_frames(count)))
    files: dict[str, BareFile] = {}
    with tempfile.TemporaryDirectory() as folder:
        with Meter(count) as meter:
            for batch in waiting:
                for session, rows in batch:
                    if session not in files:
                        files[session] = BareFile(Path(folder) / f"{session}.h5")
                    files[session].append(rows)
        for file in files.values():
            file.close()
    return meter.run


if __name__ == "__main__":
    print(json.dumps(asdict(main(int(sys.argv[1])))))
