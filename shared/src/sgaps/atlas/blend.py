"""A rebuilt frame and what an atlas shows from where it was seen: each where it errs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.camera import pose_of
from sgaps.atlas.pictures import Float32, Picture, blurred, resized
from sgaps.atlas.sweep import Recalled, recall
from sgaps.model.prior import Level, consistent, sampled
from sgaps.model.transformer import PROJECTIONS

WHITE = 255.0
DARKEST_LOG = -12.0
"""Below it an expected error is none."""
WINDOW = 7
"""Small pixels over which it is judged how far the atlas is off."""
LEAST_TOLD = 1e-4
"""Of a window: less than one pixel. What a running sum leaves over is none, and may be below 0."""
SQUARE_GAIN = 4.0
"""The mean of a square is off by less than its pixels: of the squared error, on play of two levels,
a quarter."""
SPREAD_GAIN = 0.5
LEAST_ERROR = 1.0
"""Grey levels."""
LOG_OF_SQUARES = 6.0
"""Of squares of grey levels: about so large, for a network."""
TOLD_SHARE = 0.25
"""Of what is gained where both know nothing of one another: both are wrong where a level has
changed, and on the same edges."""


class Rebuilt(NamedTuple):
    """A frame and what is thought of it."""

    frame: Picture
    log_error: Float32
    """(gh, gw): log of the RMS error in each cell, of frames in 0..1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A rebuilt frame beside what an atlas shows from where it was seen."""

    frame: Float32
    """(H, W) grey levels."""
    picture: Float32
    """(H, W) grey levels; the frame itself where no picture shows anything."""
    is_seen: NDArray[np.bool_]
    """(H, W)"""
    levels: Sequence[Level]
    """The samples."""
    features: Float32
    """(FEATURES, h, w) of small pixels: what `Trust` judges by."""
    log_odds: Float32
    """(h, w): how much less the atlas errs, of two guesses whose errors know nothing of one
    another."""


def with_atlas(
    atlas: Atlas | None,
    rebuilt: Rebuilt,
    *,
    samples: Float32,
    state: Float32,
    sentinel: float,
) -> Rebuilt:
    """The frame, better where the atlas knows the place.

    samples (N, 4) u, v, value, footprint; state (S,). As it was where there is no atlas, the state
    tells no pose, no picture was taken near by, or the frame is of another size.
    """
    if atlas is None:
        return rebuilt
    both = compared(atlas, rebuilt, samples=samples, state=state, sentinel=sentinel)
    if both is None:
        return rebuilt
    share = resized(atlas.trust.share(both.features, both.log_odds), (atlas.width, atlas.height))
    blended = both.frame + share * (both.picture - both.frame)
    for _ in range(PROJECTIONS):
        blended = np.clip(projected(blended, both.levels), 0, WHITE)
    rows, columns = rebuilt.log_error.shape
    left = resized(np.log1p(-share * both.is_seen), (columns, rows), cv2.INTER_AREA)
    told = rebuilt.log_error + 0.5 * TOLD_SHARE * left
    return Rebuilt(np.round(blended).astype(np.uint8), told.astype(np.float32))


def compared(
    atlas: Atlas,
    rebuilt: Rebuilt,
    *,
    samples: Float32,
    state: Float32,
    sentinel: float,
    but: frozenset[int] = frozenset(),
) -> Compared | None:
    """None where the atlas has nothing to say. `but` are pictures to be left out."""
    if rebuilt.frame.shape != (atlas.height, atlas.width) or not len(samples):
        return None
    pose = pose_of(state, atlas.layout, sentinel=sentinel)
    if pose is None:
        return None
    frame = rebuilt.frame.astype(np.float32)
    recalled = recall(atlas, pose, frame, but=but)
    if recalled is None:
        return None
    levels = _levels(samples, frame.shape)
    picture = np.where(recalled.is_seen, recalled.picture, frame)
    features, log_odds = _evidence(
        frame, picture, recalled, rebuilt.log_error, levels, size=atlas.scenery.shape
    )
    return Compared(
        frame=frame,
        picture=picture,
        is_seen=recalled.is_seen,
        levels=levels,
        features=features,
        log_odds=log_odds,
    )


def _evidence(
    frame: Float32,
    picture: Float32,
    recalled: Recalled,
    log_error: Float32,
    levels: Sequence[Level],
    *,
    size: tuple[int, ...],
) -> tuple[Float32, Float32]:
    """Features (FEATURES, h, w) and log odds (h, w): all that tells which guess errs less."""
    rows, columns = size

    def small(values: NDArray[np.generic]) -> Float32:
        return resized(values.astype(np.float32), (columns, rows), cv2.INTER_AREA)

    side = _sides(levels, frame.shape)
    off = np.square(np.clip(projected(picture, levels), 0, WHITE) - picture) * (side > 0)
    told = blurred(small(side > 0), WINDOW)
    gain = np.where(side > 1, SQUARE_GAIN, 1)
    wrong = np.maximum(blurred(small(gain * off), WINDOW), 0) / np.maximum(told, LEAST_TOLD)
    spread = small(np.square(recalled.spread))
    spread_around = np.maximum(blurred(spread, WINDOW), 0)
    error = wrong + SPREAD_GAIN * spread_around + LEAST_ERROR**2
    error = np.where(told > LEAST_TOLD, error, WHITE**2)
    # A head far from all that it knows may tell anything; no frame is off by more than white.
    log_doubt = np.nan_to_num(log_error, nan=0, posinf=0).clip(DARKEST_LOG, 0)
    doubt = WHITE**2 * np.exp(2 * resized(log_doubt, (columns, rows)))
    change = small(np.square(picture - frame))
    squares = np.stack([doubt, error, wrong, small(off), spread_around, spread, change])
    others = np.stack([small(recalled.is_seen) - 0.5, small(np.log2(side + 1)) / 2 - 1])
    features = np.concatenate([np.log1p(squares) / LOG_OF_SQUARES - 0.5, others])
    return features.astype(np.float32), np.log(doubt / error).astype(np.float32)


def _sides(levels: Sequence[Level], shape: tuple[int, ...]) -> Float32:
    """(H, W): the side of the smallest square that tells of a pixel; 0 where none does."""
    sides = np.zeros(shape, np.float32)
    for number, level in reversed(list(enumerate(levels))):
        side = 2**number
        known = level.is_known[0, 0].numpy().repeat(side, 0).repeat(side, 1)
        sides[known[: shape[0], : shape[1]]] = side
    return sides


def _levels(samples: Float32, shape: tuple[int, ...]) -> list[Level]:
    rows = torch.tensor(np.ascontiguousarray(samples)).unsqueeze(0)  # (1, N, 4)
    everything = torch.ones(rows.shape[:2], dtype=torch.bool)
    return sampled(
        rows[..., :2], rows[..., 2:3], rows[..., 3], everything, height=shape[0], width=shape[1]
    )


def projected(frame: Float32, levels: Sequence[Level]) -> Float32:
    """The nearest frame (H, W) in grey levels whose squares have the sampled means."""
    nearest = consistent(torch.from_numpy(frame / WHITE)[None, None], levels)
    return WHITE * np.asarray(nearest[0, 0].numpy(), np.float32)
