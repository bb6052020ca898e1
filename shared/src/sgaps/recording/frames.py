"""One recorded frame: the unit of every segment."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import RecordingError
from sgaps.recording.layout import ENCODINGS, UNWRITTEN
from sgaps.sampling.footprints import FOOTPRINTS_PX, are_footprints

_U64 = 2**64
LARGEST_SIDE_PX = 65535
"""Of a JPEG."""
_NUMBERS = struct.Struct("<4Q2I2d")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordedFrame:
    """A frame as it is on disk. Raises RecordingError if it could not be read back; the values of
    its samples are looked at by `samples_of`, those of many frames together.

    A whole-frame recording has keyframes and may have no samples.
    """

    frame_id: int
    coordinate_set_id: int
    width: int
    height: int
    samples: NDArray[np.float32]
    """(N, 4): u, v, value, all in 0..1, and footprint in pixels."""
    state: NDArray[np.float32]
    """(S,): the sentinel marks a missing value."""
    client_time_secs: float
    received_at_secs: float
    keyframe_encoding: str = ""
    """"", "png" or "jpeg"."""
    keyframe: bytes = b""

    def __post_init__(self) -> None:
        problem = (
            _number_problem(self)
            or _shape_problem(self.samples)
            or _state_problem(self.state)
            or _keyframe_problem(self)
        )
        if problem:
            raise RecordingError(f"frame {self.frame_id}: {problem}")


def samples_of(frames: Sequence[RecordedFrame]) -> NDArray[np.float32]:
    """(N, 4): those of one frame after the other. Raises RecordingError if one could not be read
    back. Looked at together, for numpy takes nearly as long for one frame as for many.
    """
    samples = np.concatenate([frame.samples for frame in frames])
    if _values_problem(samples):
        problems = ((frame.frame_id, _values_problem(frame.samples)) for frame in frames)
        frame_id, problem = next(found for found in problems if found[1])
        raise RecordingError(f"frame {frame_id}: {problem}")
    return samples


def checksums_of(frame: RecordedFrame) -> tuple[int, int]:
    """CRC-32 of all but the keyframe, and of the keyframe with its encoding; 0 without one."""
    numbers = _NUMBERS.pack(
        frame.frame_id,
        frame.coordinate_set_id,
        len(frame.samples),
        len(frame.state),
        frame.width,
        frame.height,
        frame.client_time_secs,
        frame.received_at_secs,
    )
    samples = zlib.crc32(np.ascontiguousarray(frame.samples).data, zlib.crc32(numbers))
    data = zlib.crc32(np.ascontiguousarray(frame.state).data, samples)
    return data, zlib.crc32(frame.keyframe, ENCODINGS.index(frame.keyframe_encoding))


def check_state_fits(frame: RecordedFrame, max_state_dim: int) -> None:
    """Raises RecordingError if the state vector is longer than a segment's rows."""
    if len(frame.state) > max_state_dim:
        raise RecordingError(
            f"frame {frame.frame_id}: {len(frame.state)} state values, at most {max_state_dim}"
        )


def _number_problem(frame: RecordedFrame) -> str:
    if not (0 <= frame.frame_id < _U64 and 0 <= frame.coordinate_set_id < _U64):
        return "an id is no unsigned 64-bit number"
    if not (1 <= frame.width <= LARGEST_SIDE_PX and 1 <= frame.height <= LARGEST_SIDE_PX):
        return f"resolution {frame.width}x{frame.height}"
    if not (math.isfinite(frame.client_time_secs) and math.isfinite(frame.received_at_secs)):
        return "a time is not finite"
    return ""


def _shape_problem(samples: NDArray[np.float32]) -> str:
    if samples.dtype != np.float32 or samples.ndim != 2 or samples.shape[1] != 4:  # noqa: PLR2004
        return f"samples are {samples.dtype} {samples.shape}, not float32 (N, 4)"
    return "" if len(samples) < UNWRITTEN else "too many samples"


def _values_problem(samples: NDArray[np.float32]) -> str:
    numbers = np.ascontiguousarray(samples[:, :3].T)  # in a row, where the extremes are found soon
    if len(samples) and not (numbers.min() >= 0 and numbers.max() <= 1):  # a NaN is both extremes
        return "a sample is outside 0..1"
    if not are_footprints(samples[:, 3]):
        return f"a footprint is none of {FOOTPRINTS_PX}"
    return ""


def _state_problem(state: NDArray[np.float32]) -> str:
    if state.dtype != np.float32 or state.ndim != 1:
        return f"state is {state.dtype} {state.shape}, not float32 (S,)"
    return "" if np.isfinite(state).all() else "a state value is not finite"


def _keyframe_problem(frame: RecordedFrame) -> str:
    if frame.keyframe_encoding not in ENCODINGS:
        return f"unknown keyframe encoding {frame.keyframe_encoding!r}"
    if bool(frame.keyframe) != bool(frame.keyframe_encoding):
        return "a keyframe and its encoding come together"
    return "" if len(frame.keyframe) < UNWRITTEN else "the keyframe is too large"
