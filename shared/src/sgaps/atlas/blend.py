"""A rebuilt frame and what an atlas shows from where it was seen: each where it errs less."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.camera import pose_of
from sgaps.atlas.pictures import Float32, Picture, blurred, resized
from sgaps.atlas.sweep import Recalled, recall
from sgaps.model.prior import Level, consistent, sampled
from sgaps.model.transformer import PROJECTIONS

WHITE = 255.0
WINDOW = 25
"""Pixels over which it is judged how far the atlas is off."""
SQUARE_GAIN = 4.0
"""The mean of a square is off by less than its pixels: of the squared error, on play of two levels,
a quarter."""
SPREAD_GAIN = 0.5
LEAST_ERROR = 1.0
"""Grey levels."""
TOLD_SHARE = 0.4
"""Of what is gained where both know nothing of one another: both are wrong where a level has
changed, and on the same edges."""


class Rebuilt(NamedTuple):
    """A frame and what is thought of it."""

    frame: Picture
    log_error: Float32
    """(gh, gw): log of the RMS error in each cell, of frames in 0..1."""


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
    if atlas is None or rebuilt.frame.shape != (atlas.height, atlas.width) or not len(samples):
        return rebuilt
    pose = pose_of(state, atlas.layout, sentinel=sentinel)
    if pose is None:
        return rebuilt
    frame = rebuilt.frame.astype(np.float32)
    recalled = recall(atlas, pose, frame)
    if recalled is None:
        return rebuilt
    levels = _levels(samples, frame.shape)
    error = _error_of(recalled, frame, levels)
    # A head far from all that it knows may tell anything; no frame is off by more than white.
    log_error = np.nan_to_num(rebuilt.log_error, nan=0, posinf=0).clip(max=0)
    doubt = WHITE * resized(np.exp(log_error), (atlas.width, atlas.height))
    # Two guesses with errors that know nothing of one another: weights by inverse variance.
    share = np.where(recalled.is_seen, doubt**2 / (doubt**2 + error**2), 0)
    blended = frame + share * (recalled.picture - frame)
    for _ in range(PROJECTIONS):
        blended = np.clip(_consistent(blended, levels), 0, WHITE)
    rows, columns = log_error.shape
    left = resized(np.log1p(-share), (columns, rows), cv2.INTER_AREA)
    told = rebuilt.log_error + 0.5 * TOLD_SHARE * left
    return Rebuilt(np.round(blended).astype(np.uint8), told.astype(np.float32))


def _error_of(recalled: Recalled, frame: Float32, levels: list[Level]) -> Float32:
    """(H, W) in grey levels: how far what is recalled may be off, by the samples and by how far
    the pictures are from one another. Infinite where no sample tells."""
    picture = np.where(recalled.is_seen, recalled.picture, frame)
    off = np.clip(_consistent(picture, levels), 0, WHITE) - picture
    side = _sides(levels, frame.shape)
    told = blurred(np.where(side > 0, 1, 0).astype(np.float32), WINDOW)
    gain = np.where(side > 1, SQUARE_GAIN, 1).astype(np.float32)
    wrong = blurred(gain * off**2 * (side > 0), WINDOW) / np.maximum(
        told, np.finfo(np.float32).tiny
    )
    error = np.sqrt(wrong + SPREAD_GAIN * blurred(recalled.spread**2, WINDOW) + LEAST_ERROR**2)
    return np.where(told > 0, error, np.inf).astype(np.float32)


def _sides(levels: list[Level], shape: tuple[int, ...]) -> Float32:
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


def _consistent(frame: Float32, levels: list[Level]) -> Float32:
    """The nearest frame (H, W) in grey levels whose squares have the sampled means."""
    nearest = consistent(torch.from_numpy(frame / WHITE)[None, None], levels)
    return WHITE * np.asarray(nearest[0, 0].numpy(), np.float32)
