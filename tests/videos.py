"""Videos to play and to import."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_video(
    path: Path, shades: Iterable[int], *, frames_per_sec: float = 10, codec: str = "MJPG"
) -> Path:
    """One picture of 64×48 pixels for each shade of gray."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), frames_per_sec, (64, 48))
    for shade in shades:
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    return path


def cut_video(path: Path) -> Path:
    """Without its second half, as of a copy that was interrupted."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def dented_video(path: Path) -> Path:
    """With other bytes in a twelfth of it, as of a disk that fails."""
    whole = path.read_bytes()
    start, length = len(whole) // 2, len(whole) // 12
    path.write_bytes(whole[:start] + b"\xa5" * length + whole[start + length :])
    return path
