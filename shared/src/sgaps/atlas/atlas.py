"""Whole pictures of a level and where they were taken: what a key knows by heart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.atlas.camera import Camera, Pose
from sgaps.atlas.pictures import Jpeg, Picture, decoded, decoded_small
from sgaps.atlas.trust import Trust
from sgaps.settings import PoseLayout

PAINTED_DEVIATION = 8.0
"""Grey levels: what changes less over an atlas is painted on the screen, not in the level."""
MIN_PICTURES_TO_TELL = 32
"""Fewer may all show the same wall."""
NEAR_TURN = math.radians(50)
NEAR_STEP = 0.7
"""A picture so many `PoseLayout.nearest` away is as good as one turned by NEAR_TURN."""
SAME_TURN = math.radians(2)
SAME_STEP = 0.15
"""Two pictures that are nearer to one another show the same."""
CANDIDATES = 200
MAX_TURN = math.radians(80)
MAX_STEP = 40.0
"""Farther away than the farthest wall that is looked for: a picture of somewhere else."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Atlas:
    """Pictures of one size, each with its pose."""

    pictures: Sequence[Jpeg]
    """In gray."""
    poses: Sequence[Pose]
    scenery: NDArray[np.uint8]
    """(h, w), of pictures `shrunk`: 255 where the level is seen, 0 where something is painted on
    the screen, a status bar for one."""
    width: int
    height: int
    layout: PoseLayout
    camera: Camera
    trust: Trust
    """How far it is trusted; untaught, as far as the samples bear it out."""

    @classmethod
    def of(
        cls,
        pictures: Sequence[Jpeg],
        poses: Sequence[Pose],
        *,
        width: int,
        height: int,
        layout: PoseLayout,
        camera: Camera,
        trust: Trust | None = None,
    ) -> Atlas:
        """Of one picture at least. Raises CheckpointRejected where one cannot be decoded."""
        small = (decoded_small(data, width, height) for data in pictures)
        return cls(
            pictures=tuple(pictures),
            poses=tuple(poses),
            scenery=_scenery(small),
            width=width,
            height=height,
            layout=layout,
            camera=camera,
            trust=trust or Trust(),
        )

    def __len__(self) -> int:
        return len(self.poses)

    def picture(self, index: int) -> Picture:
        """(H, W)"""
        return decoded(self.pictures[index], self.width, self.height)

    @cached_property
    def _places(self) -> NDArray[np.float64]:
        return places_of(self.poses)

    def nearest(self, pose: Pose, count: int, *, but: frozenset[int] = frozenset()) -> list[int]:
        """At most so many pictures that show most of what is seen from a pose, none twice.

        `but` are left out.
        """
        away, turned = _away(self._places, pose, self.layout)
        order = np.argsort(_distance(away, turned), kind="stable")
        shows = (away < MAX_STEP) & (turned < MAX_TURN)
        chosen: list[int] = []
        for index in order[: CANDIDATES + len(but)].tolist():
            usable = shows[index] and index not in but
            if usable and not any(
                shows_the_same(self.poses[index], self.poses[other], self.layout)
                for other in chosen
            ):
                chosen.append(index)
            if len(chosen) == count:
                break
        return chosen


def places_of(poses: Sequence[Pose]) -> NDArray[np.float64]:
    """(P, 5): east, north, up, yaw, pitch."""
    return np.array([(*pose.position, pose.yaw, pose.pitch) for pose in poses])


def apart(places: NDArray[np.float64], pose: Pose, layout: PoseLayout) -> NDArray[np.float64]:
    """(P, 5) → (P,): how little each place shows of what a pose does."""
    return _distance(*_away(places, pose, layout))


def _distance(away: NDArray[np.float64], turned: NDArray[np.float64]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = away / NEAR_STEP + turned / NEAR_TURN
    return distance


def _away(
    places: NDArray[np.float64], pose: Pose, layout: PoseLayout
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P, 5) → (P,), (P,): how many `PoseLayout.nearest`, and radians."""
    away = np.linalg.norm(places[:, :3] - pose.position, axis=1) / layout.nearest
    turned = np.abs(np.remainder(places[:, 3] - pose.yaw + math.pi, math.tau) - math.pi)
    return away, turned + np.abs(places[:, 4] - pose.pitch)


def _scenery(small: Iterable[Picture]) -> Picture:
    """(h, w), of pictures of that size: 255 where they differ. One at a time: there may be many."""
    rest = iter(small)
    first = next(rest).astype(np.float32)
    count, total, squares = 1, first, np.square(first)
    for picture in rest:
        count += 1
        cv2.accumulate(picture, total)
        cv2.accumulateSquare(picture, squares)
    variance = squares / count - np.square(total / count)
    is_painted = (variance < PAINTED_DEVIATION**2) & (count >= MIN_PICTURES_TO_TELL)
    return np.where(is_painted, 0, 255).astype(np.uint8)


def shows_the_same(one: Pose, other: Pose, layout: PoseLayout) -> bool:
    """Whether two pictures tell nothing that one does not."""
    step = math.dist(one.position, other.position) / layout.nearest
    turn = abs(math.remainder(one.yaw - other.yaw, math.tau)) + abs(one.pitch - other.pitch)
    return step < SAME_STEP and turn < SAME_TURN
