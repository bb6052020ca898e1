"""What goes into a reconstructor and what comes out, whatever method it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sgaps.checkpoints import DEFAULT_KEY

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameInput:
    """One frame as the game sent it."""

    checkpoint_key: str
    samples: Float32
    """(N, 4): u, v, value, footprint."""
    state: Float32
    """(S,)"""
    width: int
    height: int
    history: tuple[tuple[int, Float32], ...]
    """(age in frames, samples (M, 4)) of earlier frames of the session."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """One rebuilt frame."""

    image: NDArray[np.uint8]
    """(H, W)"""
    grid: tuple[int, int]
    """(gh, gw): rows and columns of the maps."""
    entropy: Float32 | None
    """(gh, gw) in 0..1; None where there is no attention, or nobody asks for it."""
    log_error: Float32 | None
    """(gh, gw): predicted log RMS error; None where nothing learned to predict it."""
    predicted_psnr_db: float | None
    model_version: str


class Reconstructor(Protocol):
    """A method that rebuilds frames."""

    @property
    def frames_at_once(self) -> int:
        """What a turn should hold: more would only get older while they wait."""
        ...

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        """Rebuild frames of any keys and resolutions, in order."""
        ...

    def is_at_hand(self, key: str) -> bool:
        """Whether its frames can be rebuilt at once: otherwise a first one waits for its model."""
        ...

    def serving(self) -> dict[str, str]:
        """Checkpoint key → version that serves it; `default` for every other key."""
        ...

    def refresh(self) -> int:
        """Swap in checkpoints that came into force; how many."""
        ...

    def warm_up(self) -> None:
        """Do everything slow that a first frame would otherwise wait for."""
        ...


class Unchanging:
    """What a method does that serves every key by the same, and has nothing to load."""

    def __init__(self, *, version: str, frames_at_once: int) -> None:
        self.frames_at_once = frames_at_once
        self._version = version

    def is_at_hand(self, key: str) -> bool:
        return True

    def serving(self) -> dict[str, str]:
        return {DEFAULT_KEY: self._version}

    def refresh(self) -> int:
        return 0

    def warm_up(self) -> None:
        return
