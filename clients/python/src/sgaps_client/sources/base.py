"""What a source of frames is, and the picture arithmetic all of them share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.errors import SourceError
from sgaps.protocol.bounds import MAX_SIDE_PX

FRAMES_PER_SEC = 10
"""Frames per second of game or media time that every source gives."""
MISSING = -999.0
"""The sentinel: a state value that the game does not have now."""

Gray = NDArray[np.uint8]
State = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class GameFrame:
    """One true frame of a game."""

    image: Gray
    """uint8 (H, W), ITU-R BT.601 luma."""
    state: State
    """float32 (S,): raw values of the game; MISSING marks an absent one."""


class Source(Protocol):
    """A game or file that gives frames of one size."""

    name: str
    width: int
    height: int
    state_dim: int

    def frames(self) -> Iterator[GameFrame]:
        """Frames in order, FRAMES_PER_SEC per second of game time. Raises SourceError."""
        ...

    def close(self) -> None:
        """Release the game or file; more than once does no harm."""
        ...


def checkpoint_key(source_name: str) -> str:
    """The key of a source's own model: its name as a legal identifier (`doom-my_way_home`)."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", source_name)[:64]


def gray_from_bgr(picture: NDArray[np.uint8]) -> Gray:
    """BT.601 luma of a uint8 (H, W, 3) picture in blue, green, red order."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def gray_from_rgb(picture: NDArray[np.uint8]) -> Gray:
    """BT.601 luma of a uint8 (H, W, 3) picture in red, green, blue order."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def fit_size(native: tuple[int, int], *, width: int | None) -> tuple[int, int]:
    """Width and height to use: those of `native`, or the width that is given and its aspect.

    Raises SourceError for a side that the protocol does not allow.
    """
    native_width, native_height = native
    width = native_width if width is None else width
    height = max(1, round(native_height * width / native_width))
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise SourceError(f"{width}x{height} pixels: a side is 1 to {MAX_SIDE_PX}; scale it down")
    return width, height


def resize(image: Gray, *, width: int, height: int) -> Gray:
    """Scale a uint8 (H, W) picture; area means where a side shrinks, so that nothing aliases.

    OpenCV has them only where no side grows: so what shrinks goes first.
    """
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    shrunk = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    grown = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, dtype=np.uint8)
