"""What the bulky messages say, whichever form they come in: arrays, where JSON has lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgaps.protocol.messages import Resolution
from sgaps.sampling.footprints import Coords, Samples

PictureEncoding: TypeAlias = Literal["png", "jpeg"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledFrame:
    """`frame_data`."""

    frame_id: int
    coordinate_set_id: int
    """The set that was sampled; 0 where a client does not say."""
    samples: Samples
    state: NDArray[np.float32]
    """(S,)."""
    resolution: Resolution
    timestamp: float
    """Seconds, by the client's clock."""


@dataclass(frozen=True, kw_only=True)
class WholeFrame:
    """`keyframe`."""

    frame_id: int
    encoding: PictureEncoding
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Importance:
    """uint8 (height, width), 255 = most important."""

    width: int
    height: int
    data: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class CoordinateSet:
    """`uv_coordinates`."""

    frame_id: int
    """The frame this set was computed from; -1 for the first set of a session."""
    coordinate_set_id: int
    coords: Coords
    footprints: bool
    """Whether the client samples squares; else every footprint is 1."""
    importance: Importance | None
    model_version: str
    predicted_psnr_db: float | None
