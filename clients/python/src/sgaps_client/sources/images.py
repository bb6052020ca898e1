"""Pictures in a folder as frames, in the order of their names and of the numbers in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from sgaps.errors import SourceError
from sgaps_client.sources.base import GameFrame, Gray, fit_size, gray_from_bgr, resize

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


class ImageSource:
    """A folder of PNG and JPEG files, in the order of their names. It has no state vector."""

    state_dim = 0

    def __init__(self, folder: Path, *, width: int | None = None) -> None:
        """List the folder. Raises SourceError where it has no readable picture."""
        self.name = f"images/{folder.resolve().name}"
        self._paths = pictures_in(folder)
        if not self._paths:
            raise SourceError(f"{folder} has no {', '.join(sorted(SUFFIXES))} files")
        first = _read(self._paths[0])
        native = (first.shape[1], first.shape[0])
        self.width, self.height = fit_size(native, width=width)

    def frames(self) -> Iterator[GameFrame]:
        """See Source; pictures of another size are scaled to that of the first."""
        for path in self._paths:
            image = resize(_read(path), width=self.width, height=self.height)
            no_state = np.empty(0, dtype=np.float32)
            yield GameFrame(image=image, state=no_state)

    def close(self) -> None:
        """Nothing to release: a file is open only while it is read."""


def pictures_in(folder: Path) -> list[Path]:
    """What is taken for its frames, in their order."""
    return sorted(filter(_is_picture, folder.iterdir()), key=_natural_order)


def _is_picture(path: Path) -> bool:
    """By its name; what is hidden, or no file, is not meant."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """frame_9 comes before frame_10, as whoever numbered them meant it."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _read(path: Path) -> Gray:
    # OpenCV's own reader of files crashes on names that are not UTF-8.
    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # the former of an empty one, or of one that claims to be huge
        picture = None
    if picture is None:
        raise SourceError(f"{path} is not a readable picture; remove it or save it again")
    return gray_from_bgr(np.asarray(picture, dtype=np.uint8))
