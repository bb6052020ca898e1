"""Samples with footprints: a quadtree over the frame, finer where importance lies.

Its leaves tile the frame, so every pixel is part of one mean: what is flat costs one sample per
large block, and what the model is unsure of is seen in small ones (Finkel and Bentley 1974).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Self

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

TIE = 1e-9
"""Added for each pixel of a side: of equals, a block is split before its quarters."""

Mass = NDArray[np.float64]
Flags = NDArray[np.bool_]


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
    tree = _Quadtree.tiling(width, height, most_blocks=max(1, int(TILING_SHARE * count)))
    splits = max(0, (count - tree.leaf_count) // COST_OF_SPLIT)
    guided = round(splits * guided_share)
    if guided:
        tree.split(guided, tree.masses_of(importance))
    tree.split(splits - guided, tree.even_masses(rng))
    leaves = tree.leaves()
    if len(leaves) > count:  # fewer samples than blocks of the largest size
        leaves = rng.choice(leaves, count, replace=False, axis=0)
    blocks = _filled(leaves, count, width, height, rng)
    corners, side = blocks[:, :2], blocks[:, 2:]
    return np.hstack([(corners + side / 2) / [width, height], side]).astype(np.float32)


class _Quadtree:
    """Which blocks are split, level by level from the largest. Arrays are (rows, columns)."""

    def __init__(self, width: int, height: int, largest_side: int) -> None:
        self._width, self._height = width, height
        self._sides = [largest_side >> n for n in range(largest_side.bit_length())]
        rows, columns = -(-height // largest_side), -(-width // largest_side)
        shapes = [(rows << n, columns << n) for n in range(len(self._sides))]
        self._split = [np.zeros(shape, bool) for shape in shapes]
        self._fits = [
            _fits(side, shape, width, height)
            for side, shape in zip(self._sides, shapes, strict=True)
        ]
        for level in range(min(BORDER_HALVINGS, len(self._sides) - 1)):
            self._split[level] = ~self._fits[level]

    @classmethod
    def tiling(cls, width: int, height: int, *, most_blocks: int) -> Self:
        """The smallest blocks of one size that are not more than this, if any size is."""
        side = 1
        while side < MAX_FOOTPRINT_PX and -(-width // side) * -(-height // side) > most_blocks:
            side *= 2
        return cls(width, height, side)

    @property
    def leaf_count(self) -> int:
        return sum(int(is_leaf.sum()) for is_leaf in self._are_leaves())

    def leaves(self) -> NDArray[np.intp]:
        """(N, 3): column and row of the first pixel, and side."""
        found = []
        for side, is_leaf in zip(self._sides, self._are_leaves(), strict=True):
            rows, columns = np.nonzero(is_leaf)
            found.append(np.stack([columns * side, rows * side, np.full_like(rows, side)], axis=1))
        return np.concatenate(found)

    def _are_leaves(self) -> list[Flags]:
        parents = [np.ones_like(self._split[0]), *(_doubled(split) for split in self._split[:-1])]
        return [
            parent & fits & ~split
            for parent, fits, split in zip(parents, self._fits, self._split, strict=True)
        ]

    def split(self, times: int, masses: list[Mass]) -> None:
        """Split the heaviest block that is a leaf, again and again.

        A block is at least as heavy as its quarters, so these are simply the heaviest of all.
        """
        candidates = [
            np.where(split | ~fits, -1.0, mass + TIE * side).ravel()
            for side, split, fits, mass in zip(
                self._sides[:-1], self._split[:-1], self._fits[:-1], masses, strict=True
            )
        ]
        if not candidates or times <= 0:
            return
        everything = np.concatenate(candidates)
        times = min(times, int((everything >= 0).sum()))
        chosen = np.zeros(len(everything), bool)
        chosen[np.argpartition(-everything, times - 1)[:times]] = True
        start = 0
        for level, split in enumerate(self._split[:-1]):
            part = chosen[start : start + split.size]
            self._split[level] = split | part.reshape(split.shape)
            start += split.size

    def masses_of(self, importance: Map) -> list[Mass]:
        """The importance in each block that can be split."""
        if len(self._sides) == 1:
            return []
        rows, columns = self._split[-2].shape
        down = _overlap(rows, self._height, importance.shape[0])
        across = _overlap(columns, self._width, importance.shape[1])
        # Not by BLAS: it would start threads for this, and wait for them where the cores are busy.
        in_rows = np.einsum("rh,hw->rw", down, importance.astype(np.float64))
        masses = [np.einsum("rw,cw->rc", in_rows, across)]
        while len(masses) < len(self._sides) - 1:
            masses.append(_in_fours(masses[-1]))
        return masses[::-1]

    def even_masses(self, rng: np.random.Generator) -> list[Mass]:
        """The area of each block, give or take: the largest are split first, in random order."""
        return [
            side**2 * (1 + UNEVENNESS * rng.random(split.shape))
            for side, split in zip(self._sides[:-1], self._split[:-1], strict=True)
        ]


def _fits(side: int, shape: tuple[int, int], width: int, height: int) -> Flags:
    """Whether a block lies wholly in the frame."""
    rows = (np.arange(shape[0]) + 1) * side <= height
    columns = (np.arange(shape[1]) + 1) * side <= width
    return np.asarray(rows[:, None] & columns[None, :])


@lru_cache(maxsize=32)
def _overlap(rows: int, pixels: int, cells: int) -> NDArray[np.float64]:
    """(rows, cells): how much of each cell lies in each two rows of pixels, or outside."""
    edges = np.arange(cells + 1) * (pixels / cells)
    row = 2 * np.arange(rows)[:, None]
    return np.asarray(np.minimum(row + 2, edges[1:]) - np.maximum(row, edges[:-1])).clip(0, 2)


def _in_fours(mass: Mass) -> Mass:
    pairs = mass[0::2] + mass[1::2]
    return np.asarray(pairs[:, 0::2] + pairs[:, 1::2])


def _doubled(flags: Flags) -> Flags:
    return flags.repeat(2, axis=0).repeat(2, axis=1)


def _filled(
    leaves: NDArray[np.intp], count: int, width: int, height: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """What splitting by threes leaves over: single pixels that are no leaf yet."""
    taken = leaves[leaves[:, 2] == 1]
    free = np.ones(width * height, bool)
    free[taken[:, 1] * width + taken[:, 0]] = False
    missing = count - len(leaves)
    if not missing:
        return leaves
    y, x = np.divmod(rng.choice(np.flatnonzero(free), missing, replace=False), width)
    return np.concatenate([leaves, np.stack([x, y, np.ones_like(x)], axis=1)])
