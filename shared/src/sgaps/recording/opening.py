"""Opening a segment that nobody vouches for, and whose fault it is where that fails."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.recording.disk import is_kept_open, memory_folder, system_errno
from sgaps.recording.layout import H5_ERRORS, H5Object


def open_untrusted(path: Path, *, salvage: bool) -> H5Object:
    """A file to read; with `salvage` one that its writer left unfinished.

    Raises RecordingCorrupt, RecordingError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no plain file")
        return _open_part(path) if salvage else h5py.File(path, "r", locking=False)
    except H5_ERRORS as error:
        raise blame(path, error) from error


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


def blame(path: Path, error: Exception) -> RecordingError:
    """Tell a broken file from a system that cannot read it now (descriptors, rights, a disk)."""
    if is_of_the_file(error):
        return RecordingCorrupt(f"{path} is no valid segment: {error}")
    return RecordingError(f"cannot read {path}: {error}")


def is_of_the_file(error: Exception) -> bool:
    """Whether it is the file that is broken."""
    # A lie of the file about an offset ends in EINVAL.
    return system_errno(error) in (None, errno.EINVAL)
