"""A real file system that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import require


@contextmanager
def small_disk(mount_point: Path, *, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of this size, which takes root."""
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(mount_point)]
    mounting = subprocess.run(command, capture_output=True, text=True, check=False)
    require(mounting.returncode == 0, f"the right to mount a tmpfs ({mounting.stderr.strip()})")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


def fill(disk: Path, *, leave_bytes: int) -> Path:
    """A file that leaves so much free; remove it to have the space back."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave_bytes)))
    return ballast


def set_read_only(disk: Path, *, read_only: bool) -> None:
    """What a system does with a disk that has errors; nothing may be open for writing there."""
    option = "ro" if read_only else "rw"
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def grow(disk: Path, *, size_bytes: int) -> None:
    """What an administrator does when nothing can be deleted."""
    subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(disk)], check=True)
