"""Samples with footprints: a quadtree over the frame, finer where importance lies.

Its leaves tile the frame, so every pixel is part of one mean: what is flat costs one sample per
large block, and what the model is unsure of is seen in small ones (Finkel and Bentley 1974).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sgaps.sampling.footprints import MAX_FOOTPRINT_PX, Coords
from sgaps.sampling.importance import Map

TILING_SHARE = 0.25
"""Of the samples, at most so many for the largest blocks; the rest goes into splitting them."""
COST_OF_SPLIT = 3
"""More samples where a block becomes four."""
BORDER_HALVINGS = 2
"""How often a block across the border is halved to fit. What then still lies outside is left to
interpolation: a strip two pixels wide would take as many samples as half the frame."""
UNEVENNESS = 1.0
"""How much heavier than another a block of its size may be when splits fall at random; below 3, for
a block must stay heavier than its quarters."""

TIE = 1e-12
"""Of all importance, added for each pixel of a side: of equals, a block is split before its
quarters. Above what rounding adds to a sum, far below what a pixel weighs."""

Blocks: TypeAlias = NDArray[np.float64]
"""(N, 3): column and row of the first pixel, and side. Whole numbers, in the type that numpy
multiplies quickly: what there is to do is little, so what counts is in how many steps."""
Weigh: TypeAlias = Callable[[Blocks], NDArray[np.float64]]
"""(N, 3) → (N,) ≥ 0: a block weighs no less than its quarters."""

_CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
_QUARTERS = np.hstack([[[1, 0, 0], [0, 1, 0], [x / 2, y / 2, 1 / 2]] for x, y in _CORNERS])
"""(3, 12): a block times this are its four quarters."""


def split_tiling(
    importance: Map,
    *,
    guided_share: float,
    count: int,
    width: int,
    height: int,
    rng: np.random.Generator,
) -> Coords:
    """Split the blocks of a tiling: a share of the splits by importance, the others evenly.

    The even share looks where nobody expects anything, and somewhere else in every frame.
    importance (gh, gw) ≥ 0, count ≤ pixels → (count, 3).
    """
    leaves = _tiling(width, height, max(1, int(TILING_SHARE * count)))
    splits = max(0, (count - len(leaves)) // COST_OF_SPLIT)
    guided = round(splits * guided_share)
    if guided:
        leaves = _split(leaves, guided, _mass_of(importance, width, height))
    leaves = _split(leaves, splits - guided, _even_mass(rng))
    if len(leaves) > count:
        weigh = _mass_of_any(importance, width, height)
        leaves = _kept(leaves, count, round(count * guided_share), weigh, rng)
    blocks = _filled(leaves, count, width, height, rng)
    coords = blocks.astype(np.float32)
    coords[:, :2] = (blocks[:, :2] + blocks[:, 2:] / 2) / [width, height]
    return coords


@lru_cache(maxsize=32)
def _tiling(width: int, height: int, most_blocks: int) -> Blocks:
    """The smallest blocks of one size that are not more than this, if any size is.

    A block across the border is halved, and what then still lies outside is left out.
    """
    side = 1
    # No block is larger than a narrow frame takes: all that lie across its border would be lost.
    largest = min(MAX_FOOTPRINT_PX, 1 << (min(width, height) - 1).bit_length())
    while side < largest and -(-width // side) * -(-height // side) > most_blocks:
        side *= 2
    rows, columns = np.indices((-(-height // side), -(-width // side)))
    blocks = np.stack([columns * side, rows * side, np.full_like(rows, side)], axis=-1)
    blocks = blocks.reshape(-1, 3).astype(np.float64)
    fitting = []
    for _ in range(min(BORDER_HALVINGS, side.bit_length() - 1)):
        fits = _fits(blocks, width, height)
        fitting.append(blocks[fits])
        blocks = _quarters(blocks[~fits])
    return np.concatenate([*fitting, blocks[_fits(blocks, width, height)]])


def _fits(blocks: Blocks, width: int, height: int) -> NDArray[np.bool_]:
    return np.asarray((blocks[:, :2] + blocks[:, 2:] <= [width, height]).all(1))


def _quarters(blocks: Blocks) -> Blocks:
    """(N, 3) of a side above 1 → (4 N, 3)."""
    return np.asarray((blocks @ _QUARTERS).reshape(-1, 3))


def _split(leaves: Blocks, times: int, weigh: Weigh) -> Blocks:
    """Split the heaviest leaf, again and again; the leaves then.

    A block is at least as heavy as its quarters, so the split ones are simply the heaviest of all,
    and the quarters of a block that is not among the heaviest need not be looked at.
    """
    if times <= 0:
        return leaves
    masses = _split_order(leaves, weigh)
    generations, first_new = [leaves], 0
    parents: list[NDArray[np.intp]] = []
    while True:
        is_split = _heaviest(masses, times)
        (new,) = is_split[first_new:].nonzero()
        if not new.size:
            is_leaf = ~is_split
            if parents:
                is_leaf[len(leaves) :] &= is_split[np.concatenate(parents)]
            return np.asarray(np.concatenate(generations)[is_leaf])
        parents.append((first_new + new).repeat(4))
        generations.append(_quarters(generations[-1][new]))
        first_new = len(masses)
        masses = np.concatenate([masses, _split_order(generations[-1], weigh)])


def _kept(
    leaves: Blocks, count: int, guided: int, weigh: Weigh, rng: np.random.Generator
) -> Blocks:
    """Of more blocks than there are samples, some by importance, any of equals; the others by size,
    so the border's small blocks give way: what is left shows most."""
    doubted = np.argsort(-weigh(leaves) * (1 + rng.random(len(leaves))))
    others = leaves[doubted[guided:]]
    largest = np.argsort(-others[:, 2] - rng.random(len(others)))
    return np.concatenate([leaves[doubted[:guided]], others[largest[: count - guided]]])


def _split_order(blocks: Blocks, weigh: Weigh) -> NDArray[np.float64]:
    """(N,): the higher, the earlier; below 0 for a pixel, which cannot be split."""
    side = blocks[:, 2]
    return np.where(side > 1, weigh(blocks) + TIE * side, -1.0)


def _heaviest(masses: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """(N,) → (N,): the `count` highest that are not below 0."""
    if count >= len(masses):
        return masses >= 0
    chosen = np.zeros(len(masses), bool)
    chosen[np.argpartition(-masses, count - 1)[:count]] = True
    return chosen & (masses >= 0)


def _mass_of(importance: Map, width: int, height: int) -> Weigh:
    """The share of all importance that lies in each block of at least two pixels a side."""
    summed = _summed(importance, width, height)
    summed /= max(summed[-1, -1], np.finfo(np.float64).tiny)
    return _mass_in(summed)


def _mass_of_any(importance: Map, width: int, height: int) -> Weigh:
    """The importance in each block or pixel: a pixel has its part of the cell at its centre."""
    of_blocks = _mass_in(_summed(importance, width, height))
    cells_per_pixel = np.array(importance.shape[::-1]) / [width, height]

    def weigh(blocks: Blocks) -> NDArray[np.float64]:
        column, row = ((blocks[:, :2] + 0.5) * cells_per_pixel).astype(np.intp).T
        of_pixels = importance[row, column] * cells_per_pixel.prod()
        return np.where(blocks[:, 2] > 1, of_blocks(blocks), of_pixels)

    return weigh


def _mass_in(summed: NDArray[np.float64]) -> Weigh:
    """By the sums above and left of every second pixel: of blocks, not of pixels."""
    # A block times this are the places of its corners in all sums one behind the other.
    row = summed.shape[1]
    places = np.array([[1 / 2, row / 2, (x + y * row) / 2] for x, y in _CORNERS]).T

    def weigh(blocks: Blocks) -> NDArray[np.float64]:
        # Those of a pixel lie between sums.
        corners = (blocks @ places).astype(np.intp)
        here, right, below, opposite = summed.take(corners, mode="clip").T
        return np.asarray(np.maximum(opposite - right - below + here, 0))

    return weigh


def _summed(importance: Map, width: int, height: int) -> NDArray[np.float64]:
    """(height // 2 + 1, width // 2 + 1): the importance above and left of every second pixel.

    A cell's importance lies evenly in it, so between two edges of cells a sum grows evenly.
    """
    rows, columns = importance.shape
    sums = np.zeros((rows + 1, columns + 1))
    importance.cumsum(0, dtype=np.float64).cumsum(1, out=sums[1:, 1:])
    row, down = _edges(height, rows)
    column, across = _edges(width, columns)
    return _between(_between(sums, column, across, axis=1), row, down[:, None], axis=0)


def _between(
    sums: NDArray[np.float64], at: NDArray[np.intp], share: NDArray[np.float64], *, axis: int
) -> NDArray[np.float64]:
    """So far, along an axis, from the sums at some places to the next ones."""
    steps = np.diff(sums, axis=axis).take(at, axis)
    steps *= share
    steps += sums.take(at, axis)
    return steps


@lru_cache(maxsize=32)
def _edges(pixels: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Of every second pixel's edge: the cell it lies in, and how far, in 0..1."""
    at = np.arange(0, pixels + 1, 2, dtype=np.float64) * (cells / pixels)
    cell = np.minimum(at.astype(np.intp), cells - 1)
    return cell, at - cell


def _even_mass(rng: np.random.Generator) -> Weigh:
    """The area of each block, give or take: the largest are split first, in random order."""
    return lambda blocks: blocks[:, 2] ** 2 * (1 + UNEVENNESS * rng.random(len(blocks)))


def _filled(
    leaves: Blocks, count: int, width: int, height: int, rng: np.random.Generator
) -> Blocks:
    """What splitting by threes leaves over: single pixels that are no leaf yet."""
    missing = count - len(leaves)
    if not missing:
        return leaves
    taken = np.sort(leaves[leaves[:, 2] == 1] @ [1, width, 0])
    free = rng.choice(width * height - len(taken), missing, replace=False)
    # The pixels in order, without those taken: so many of them lie before the n-th that is free.
    y, x = np.divmod(free + (taken - np.arange(len(taken))).searchsorted(free, "right"), width)
    return np.concatenate([leaves, np.stack([x, y, np.ones_like(x)], axis=1)])
