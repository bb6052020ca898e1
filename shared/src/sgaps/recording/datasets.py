"""The datasets of a segment that nobody vouches for: each can only be what it claims."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sgaps.recording.layout import H5_ERRORS, INDEX_DTYPE, H5Object
from sgaps.recording.opening import is_of_the_file

OF_FRAMES = ("index", "state_vectors", "resolution", "timestamps", "checksums")
"""Datasets with a row for every frame."""
NEWER = ("footprints", "checksums")
"""Which older files lack."""
MAX_CHUNK_BYTES = 4 * 2**20
"""To read a row its whole chunk is unpacked. Ours have a megabyte, of the longest states."""


def datasets_of(group: H5Object, max_state_dim: int, limit_bytes: int) -> dict[str, H5Object]:
    """By name; an older file lacks some. Raises what h5py raises."""
    return {
        name: _dataset(group, name, dtype, row_shape, limit_bytes)
        for name, (dtype, row_shape) in _types(max_state_dim).items()
        if name not in NEWER or group.get(name, getlink=True) is not None
    }


def _types(max_state_dim: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Type and row shape of every dataset."""
    return {
        "pixels": (np.dtype("<f4"), (3,)),
        "footprints": (np.dtype("u1"), ()),
        "keyframes": (np.dtype("u1"), ()),
        "state_vectors": (np.dtype("<f4"), (max_state_dim,)),
        "resolution": (np.dtype("<u4"), (2,)),
        "timestamps": (np.dtype("<f8"), (2,)),
        "checksums": (np.dtype("<u4"), (2,)),
        "index": (INDEX_DTYPE, ()),
    }


def own(group: H5Object, name: str) -> H5Object:
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
    file: its shape may be a lie, and it would be read into memory, a chunk at a time. Without
    filters: one that unpacks takes whatever memory its stream asks for, before anyone compares.
    """
    dataset = own(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise TypeError(f"{name} is no dataset")
    if dataset.dtype != dtype or dataset.ndim < 1 or dataset.shape[1:] != row_shape:
        raise ValueError(f"{name} is {dataset.dtype} {dataset.shape}")
    # Not `nbytes`, which wraps around at 64 bits.
    size_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    is_bounded = size_bytes <= limit_bytes and chunk_bytes <= MAX_CHUNK_BYTES
    if dataset.chunks is None or not is_bounded:
        raise ValueError(f"{name} is not stored as it should be")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{name} has HDF5 filters; `h5repack -f NONE` takes them away")
    return dataset


def rows_of(
    dataset: H5Object, count: int, *, salvage: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(count, ...) the first rows, and (count,) which of them can be reached.

    With `salvage` chunk by chunk: a power cut may tear what leads to a newer one, and that hides
    none of those before.
    """
    if not salvage:
        return dataset[:count], np.ones(count, np.bool_)
    rows, reached = np.zeros((count, *dataset.shape[1:]), dataset.dtype), np.zeros(count, np.bool_)
    for start in range(0, count, dataset.chunks[0]):
        chunk = slice(start, min(count, start + dataset.chunks[0]))
        try:
            rows[chunk] = dataset[chunk]
        except H5_ERRORS as error:
            if not is_of_the_file(error):
                raise
        else:
            reached[chunk] = True
    return rows, reached


def inside(
    offsets: NDArray[np.uint64], counts: NDArray[np.uint32], length: int
) -> NDArray[np.bool_]:
    """Whether offset + count ≤ length, where the sum might wrap around."""
    end = np.uint64(length)
    return (offsets <= end) & (counts <= end - np.minimum(offsets, end))


def run_of(dataset: H5Object, offset: np.uint64, count: np.uint32) -> NDArray[Any]:
    start = int(offset)
    rows: NDArray[Any] = dataset[start : start + int(count)]
    return rows
