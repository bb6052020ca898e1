"""Videos to play and to import."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, shades: Iterable[int], *, frames_per_sec: float = 10) -> Path:
    """One picture of 64×48 pixels for each shade of gray, in MJPG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), frames_per_sec, (64, 48))
    for shade in shades:
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    return path
