"""Names, types and places of the HDF5 layout: what the recorder writes and the trainer reads.

The file `<recordings>/<checkpoint_key>/<session_id>/<number>.h5` has one group,
`/<checkpoint_key>/<session_id>/frames/`:

    pixels         (total samples, 3) float32: u, v, value, all frames one after the other
    footprints     (total samples,)   uint8: side in pixels of the square a value is the mean of;
                                      a file without it holds points, whose side is 1
    keyframes      (total bytes,)     uint8: PNG and JPEG files, one after the other
    state_vectors  (F, max_state_dim) float32, the sentinel where nothing was sent
    resolution     (F, 2)             uint32: width, height
    timestamps     (F, 2)             float64 seconds: client's clock, gateway's clock
    checksums      (F, 2)             uint32: CRC-32 of a frame, and of its keyframe (see
                                      `checksums_of`); a file without them is older
    index          (F,)               compound: INDEX_DTYPE, written last: what it lists exists,
                                      but for a power cut, which the checksums show

and the attributes schema_version, checkpoint_key, session_id, max_state_dim, sentinel and, where
there are segments before, newest_before: the highest frame id in them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from sgaps.errors import RecordingError
from sgaps.protocol.ids import is_valid_id

SCHEMA_VERSION = 1

SEALED_SUFFIX = ".h5"
PART_SUFFIX = ".part"
"""A segment that is being written, or was when its writer died."""
RECOVERING_SUFFIX = ".recovering"
"""The copy that recovery makes of a part; worthless while the part is there."""
BAD_SUFFIX = ".bad"
"""A part without a readable frame, or a damaged segment, kept for people to look at."""

ENCODINGS = ("", "png", "jpeg")
"""Keyframe encodings; the position is the number in the file."""
UNWRITTEN = 2**32 - 1
"""pixels_count of an index row that was made room for and never written."""

SAMPLES_PER_CHUNK = 4096
STATES_PER_CHUNK = 64
FRAMES_PER_CHUNK = 256
INDEX_DTYPE = np.dtype(
    [
        ("frame_id", "<u8"),
        ("pixels_offset", "<u8"),
        ("pixels_count", "<u4"),
        ("keyframe_offset", "<u8"),
        ("keyframe_size", "<u4"),
        ("keyframe_encoding", h5py.enum_dtype({"none": 0, "png": 1, "jpeg": 2}, basetype="u1")),
        ("coordinate_set_id", "<u8"),
        ("state_count", "<u4"),
    ]
)

H5Object: TypeAlias = Any
"""A file, group or dataset of h5py, which has no types."""

# What h5py raises, by no clear rule, where a file or a disk is not as it should be.
H5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError)

log = logging.getLogger(__name__)
_NUMBERED = re.compile(r"([0-9]{6,})\.h5(\.part|\.bad|\.recovering)?(\.[0-9]+)?")


def check_id(text: str) -> str:
    """The id itself. Raises RecordingError unless it may be a file and an HDF5 name."""
    if not is_valid_id(text):
        raise RecordingError(f"{text!r} is no legal checkpoint key or session id")
    return text


def session_folder(root: Path, checkpoint_key: str, session_id: str) -> Path:
    """Where the segments of a session are. Raises RecordingError on illegal ids."""
    return root / check_id(checkpoint_key) / check_id(session_id)


def owner_of(path: Path) -> tuple[str, str]:
    """checkpoint_key, session_id: whose a segment or part is by the folder that it lies in."""
    return path.parent.parent.name, path.parent.name


def group_name(checkpoint_key: str, session_id: str) -> str:
    return f"/{checkpoint_key}/{session_id}/frames"


def segment_number(path: Path) -> int | None:
    """Number of a segment in any of its states, from its name; None for another file."""
    match = _NUMBERED.fullmatch(path.name)
    return int(match[1]) if match else None


def sealed_paths(folder: Path) -> list[Path]:
    """Sealed segments in a session's folder, oldest first. Raises RecordingError."""
    return _with_suffix(_listed(folder), SEALED_SUFFIX)


def part_paths(folder: Path) -> list[Path]:
    """Parts in a session's folder, oldest first. Raises RecordingError."""
    return _with_suffix(_listed(folder), SEALED_SUFFIX + PART_SUFFIX)


def _with_suffix(paths: Iterable[Path], suffix: str) -> list[Path]:
    """Segments: a copy that somebody made beside them is none."""
    return [
        path for path in paths if path.name.endswith(suffix) and segment_number(path) is not None
    ]


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing where there is none. Raises RecordingError."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordingError(f"{folder} cannot be listed: {error.strerror}") from error


def all_part_paths(root: Path) -> list[Path]:
    """Parts of all sessions under a recordings folder. A folder that cannot be listed is left out,
    and logged: it is one key's or session's. Raises RecordingError where it is the root."""
    sessions = [session for key in _listed(root) for session in _listed_or_told(key)]
    paths = [path for session in sessions for path in _listed_or_told(session)]
    return _with_suffix(paths, SEALED_SUFFIX + PART_SUFFIX)


def _listed_or_told(folder: Path) -> list[Path]:
    try:
        return _listed(folder)
    except RecordingError as error:
        log.error("what killed writers left there is not recovered: %s", error)  # noqa: TRY400
        return []


def next_segment_path(folder: Path) -> Path:
    """Path of a session's next segment: no number is used twice, whatever became of it.

    Raises RecordingError.
    """
    taken = [segment_number(path) for path in _listed(folder)]
    number = 1 + max((number for number in taken if number is not None), default=-1)
    return folder / f"{number:06d}{SEALED_SUFFIX}"


def with_suffix_added(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
