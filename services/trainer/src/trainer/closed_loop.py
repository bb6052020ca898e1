"""A session as it is served: each frame's samples are chosen from what the last one told.

The same sampler and the same model as behind the gateway, on frames that were recorded whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.atlas.atlas import Atlas
from sgaps.model import ModelOutput, SparsePixelTransformer
from sgaps.model.quality import predicted_psnr_db
from sgaps.protocol.binary_codec import encode_coordinates, encode_frame
from sgaps.protocol.content import CoordinateSet, SampledFrame
from sgaps.protocol.messages import Resolution
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import Coords, Samples, sample_image
from sgaps.sampling.importance import (
    NOTHING_KNOWN,
    AttentionEntropyImportanceCalculator,
    Map,
    PredictedErrorImportanceCalculator,
)
from sgaps.sampling.schedule import MaskUpdateScheduler
from sgaps.settings import ImportanceMethod, PatternName, Settings
from trainer.dataset import Example
from trainer.pictures import Picture, gray
from trainer.rebuild import rebuilt

Guide: TypeAlias = ImportanceMethod | Literal["nothing"]
"""What says where the next samples go."""
Frames: TypeAlias = Sequence[tuple[Picture, NDArray[np.float32]]]
"""Whole frame and state vector of each frame of a session."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How a session is sampled."""

    guide: Guide
    footprints: bool = True
    pattern: PatternName | None = None
    """Of points, where nothing guides them; None = as configured."""
    history: bool = True
    """Whether the model remembers the frames before: without, every frame stands alone."""
    state: Literal["true", "wrong", "no"] = "true"
    """Wrong: each frame comes with the state vector of another one of its session."""
    atlas: bool = True
    """Whether the level is known by heart, where it can be."""

    @property
    def name(self) -> str:
        shape = "squares" if self.footprints else "points"
        guide = "even" if self.guide == "nothing" else f"by {self.guide}"
        state = "" if self.state == "true" else f", {self.state} state"
        atlas = "" if self.atlas else ", no atlas"
        return f"{shape}, {self.pattern or guide}{state}{atlas}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One frame of a session."""

    truth: Picture
    frame: Picture
    samples: Samples
    state: NDArray[np.float32]
    """(S,), as it was sent."""
    entropy: Map
    """(gh, gw)"""
    log_error: Map
    """(gh, gw): predicted log of the RMS error."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.truth.shape
        return width, height


class Traffic(NamedTuple):
    """Bytes of a frame on the wire."""

    up: int
    """From the client."""
    down: int
    """To it."""


def traffic(shown: Shown, *, footprints: bool, model_version: str) -> Traffic:
    """Of a frame and of the set that answers one, in the binary form (docs/protocol.md)."""
    width, height = shown.size
    frame = SampledFrame(
        frame_id=0,
        coordinate_set_id=0,
        samples=shown.samples,
        state=shown.state,
        resolution=Resolution(width=width, height=height),
        timestamp=0.0,
    )
    answer = CoordinateSet(
        frame_id=0,
        coordinate_set_id=0,
        coords=shown.samples[:, [0, 1, 3]],
        footprints=footprints,
        importance=None,
        model_version=model_version,
        predicted_psnr_db=predicted_psnr_db(shown.log_error),
    )
    return Traffic(up=len(encode_frame(frame)), down=len(encode_coordinates(answer)))


def play(
    model: SparsePixelTransformer,
    frames: Frames,
    loop: Loop,
    settings: Settings,
    *,
    session_id: str,
    sample_count: int,
    atlas: Atlas | None = None,
) -> Iterator[Shown]:
    """Rebuild the frames of a session one after the other."""
    # Each session has its own luck, the same in all loops: intervals over sessions hold it, and
    # loops are compared in pairs.
    rng = np.random.default_rng([settings.sampling.seed, *session_id.encode()])
    past: deque[Samples] = deque(maxlen=settings.model.history_frames)
    schedule = MaskUpdateScheduler(settings.mask_update)
    known = atlas if loop.atlas else None
    importance, is_due = NOTHING_KNOWN, True
    drawn_after: int | None = None
    for frame_id, ((truth, _), state) in enumerate(zip(frames, _states(frames, loop), strict=True)):
        if is_due:
            coords = _coords(importance, loop, settings, sample_count, truth.shape, rng)
        samples = sample_image(truth, coords)
        output = _rebuilt(model, samples, tuple(past), state, truth.shape, settings, known)
        shown = Shown(
            truth=truth,
            frame=gray(output.frame[0, 0].cpu().numpy()),
            samples=samples,
            state=state,
            entropy=_map(output.entropy),
            log_error=_map(output.log_error),
        )
        yield shown
        importance = importance_of(shown, loop.guide, settings)
        is_due = not loop.history or schedule.should_update(
            frame_id=frame_id,
            last_update_frame_id=drawn_after,
            predicted_psnr_db=predicted_psnr_db(shown.log_error),
        )
        if is_due:
            drawn_after = frame_id
        if loop.history:
            past.appendleft(samples)


def _states(frames: Frames, loop: Loop) -> list[NDArray[np.float32]]:
    states = [state for _, state in frames]
    match loop.state:
        case "wrong":
            return states[len(states) // 2 :] + states[: len(states) // 2]
        case "no":
            return [np.empty(0, np.float32)] * len(states)
    return states


def _coords(
    importance: Map,
    loop: Loop,
    settings: Settings,
    count: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Coords:
    height, width = size
    pattern = loop.pattern or settings.sampling.pattern
    sampling = settings.sampling.model_copy(update={"pattern": pattern})
    sampler = AdaptiveUVSampler(sampling, footprints=loop.footprints)
    return sampler.sample(importance, count=count, width=width, height=height, rng=rng)


def importance_of(shown: Shown, guide: Guide, settings: Settings) -> Map:
    """(gh, gw) in 0..1: where the next samples should go."""
    epsilon = settings.importance.epsilon
    match guide:
        case "attention_entropy":
            return AttentionEntropyImportanceCalculator(epsilon)(shown.entropy)
        case "predicted_error":
            return PredictedErrorImportanceCalculator(epsilon)(shown.log_error)
    return NOTHING_KNOWN


def _rebuilt(
    model: SparsePixelTransformer,
    samples: Samples,
    past: tuple[Samples, ...],
    state: NDArray[np.float32],
    size: tuple[int, int],
    settings: Settings,
    atlas: Atlas | None,
) -> ModelOutput:
    """The true frame is no argument: what the model sees is what a session sends."""
    example = Example(
        samples=samples,
        history=tuple(enumerate(past, start=1)),
        state=state,
        width=size[1],
        height=size[0],
        target=None,
        held_out=np.empty((0, 4), np.float32),
        session_id="",
    )
    _, output = rebuilt(model, example, settings, atlas=atlas, return_entropy=True)
    return output


def _map(grid: torch.Tensor | None) -> Map:
    if grid is None:
        raise ValueError("the model was not asked for its entropy")
    return np.asarray(grid[0].float().cpu().numpy())
