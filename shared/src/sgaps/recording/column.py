"""A dataset of a segment, that only grows."""

from __future__ import annotations

import numpy as np
from h5py import h5s
from numpy.typing import ArrayLike, DTypeLike

from sgaps.recording.layout import H5Object


class Column:
    """Grows by rows. By h5py's low level: what its slices do beside would be a third of all that
    the recorder does. All methods raise what h5py raises.
    """

    def __init__(
        self,
        group: H5Object,
        name: str,
        dtype: DTypeLike,
        chunk: tuple[int, ...],
        fill: ArrayLike = 0,
    ) -> None:
        """`chunk`: rows that are stored together, and the shape of one."""
        self.dataset: H5Object = group.create_dataset(
            name,
            shape=(0, *chunk[1:]),
            maxshape=(None, *chunk[1:]),
            chunks=chunk,
            dtype=dtype,
            fillvalue=fill,
        )
        self.length = 0
        """Rows. HDF5 knows it too, but takes as long to tell as to write one."""
        self._flushed = 0
        self._row = chunk[1:]
        self._dtype = self.dataset.dtype
        self._type = self.dataset.id.get_type()

    def extend(self, rows: ArrayLike) -> None:
        """Append rows along the first axis."""
        array = np.ascontiguousarray(rows, dtype=self._dtype)
        if not len(array):
            return
        dataset, start = self.dataset.id, self.length
        dataset.set_extent((start + len(array), *self._row))
        place = dataset.get_space()
        place.select_hyperslab((start, *(0 for _ in self._row)), array.shape)
        # The type of the file: the array has it already, so HDF5 converts nothing.
        dataset.write(h5s.create_simple(array.shape), place, array, self._type)
        self.length += len(array)

    def flush(self) -> None:
        """Hand to the system what is new."""
        if self._flushed < self.length:
            self.dataset.flush()
            self._flushed = self.length
