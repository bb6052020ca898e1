"""A GPU of its own for each replica on a machine: Docker shows every replica all of them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import torch

from sgaps.errors import SettingsError, SgapsError
from sgaps.model import pick_device
from sgaps.settings import ReconstructorSettings


class NoFreeGpu(SgapsError):
    """Every GPU of this machine is leased."""


def device_of(settings: ReconstructorSettings) -> torch.device:
    """Where this replica computes. Raises NoFreeGpu, SettingsError."""
    device = pick_device(settings.device)
    if device.type == "cpu" or settings.gpu_leases_dir is None:
        return device
    return torch.device("cuda", lease_gpu(settings.gpu_leases_dir, torch.cuda.device_count()))


def lease_gpu(folder: Path, count: int) -> int:
    """The index of a GPU that is this process's own for as long as it lives.

    Raises NoFreeGpu, and SettingsError where no file can be opened in the folder.

    A lease is a lock on a file that the replicas of a machine share; the kernel lets go of it
    however the process ends, so there is nothing to renew and nothing to clean up.
    """
    for index in range(count):
        descriptor = _opened(folder / f"gpu-{index}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return index  # the file stays open, and so locked
    raise NoFreeGpu(f"all {count} GPUs are leased: as many reconstructors as GPUs, no more")


def _opened(lease: Path) -> int:
    try:
        return os.open(lease, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(
            f"reconstructor.gpu_leases_dir must be a folder that this user may write in: {error}"
        ) from error
