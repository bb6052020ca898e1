"""Where a picture was taken from, and where its pixels lie in another one.

Pinhole cameras (Hartley and Zisserman, Multiple View Geometry, chapters 6 and 13). Lengths are in
units of the state vector. World axes: east, north, up; of a camera: right, down, ahead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sgaps.settings import PoseLayout, Section

Matrix: TypeAlias = NDArray[np.float64]
FOCAL_LIMITS = 0.05, 20.0
Share: TypeAlias = Annotated[float, Field(ge=FOCAL_LIMITS[0], le=FOCAL_LIMITS[1])]
FARTHEST_POSITION = 1e9
"""Beyond it there is no level, and numbers lose their digits."""


class Camera(Section):
    """What all pictures of a level were taken with."""

    focal_width: Share
    """Focal length in widths of the picture: half of it is a field of view of 90 degrees."""
    focal_height: Share
    """In heights of the picture."""
    horizon: Annotated[float, Field(ge=0, le=1)]
    """The row straight ahead, in heights from the top: above the middle where a bar lies below."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the eye is, and where it looks."""

    position: tuple[float, float, float]
    """East, north, up."""
    yaw: float
    """Radians from east, anticlockwise."""
    pitch: float
    """Radians above the horizon."""

    @property
    def camera_from_world(self) -> Matrix:
        """(3, 3) rotation."""
        flat = math.cos(self.pitch)
        ahead = [flat * math.cos(self.yaw), flat * math.sin(self.yaw), math.sin(self.pitch)]
        right = [math.sin(self.yaw), -math.cos(self.yaw), 0.0]
        return np.array([right, np.cross(ahead, right), ahead])


def pose_of(state: NDArray[np.float32], layout: PoseLayout, *, sentinel: float) -> Pose | None:
    """The pose that a state vector (S,) tells; None where a value of it is missing or absurd."""
    if len(state) <= max(layout.values):
        return None
    told = state[list(layout.values)]  # (4,) or (5,)
    if not (np.abs(told) <= FARTHEST_POSITION).all() or (told == np.float32(sentinel)).any():
        return None
    east, north, up, yaw, pitch = (*told.tolist(), 0.0)[:5]
    return Pose(position=(east, north, up), yaw=math.radians(yaw), pitch=math.radians(pitch))


@dataclass(frozen=True, kw_only=True, eq=False)
class Warp:
    """From pixels of one picture to those of another, by inverse depth q.

    Pixel (x, y) of the first is (X / Z, Y / Z) of the second, where (X, Y, Z) is
    `turn` @ (x, y, 1) + q * `shift`; behind the second camera where Z is not positive.
    """

    turn: Matrix
    """(3, 3)"""
    shift: Matrix
    """(3,)"""

    def plane(self, inverse_depth: float) -> Matrix:
        """(3, 3): the homography of the plane that faces the first camera so far away."""
        homography = self.turn.copy()
        homography[:, 2] += inverse_depth * self.shift
        return homography


def warp(seen_from: Pose, into: Pose, camera: Camera, *, width: int, height: int) -> Warp:
    """From pixels of a picture taken at one pose to those of one taken at another."""
    pixels = _pixels_from_rays(camera, width, height)
    rotation = into.camera_from_world
    turned = rotation @ seen_from.camera_from_world.T
    moved = rotation @ np.subtract(seen_from.position, into.position)
    return Warp(turn=pixels @ turned @ np.linalg.inv(pixels), shift=pixels @ moved)


def _pixels_from_rays(camera: Camera, width: int, height: int) -> Matrix:
    """(3, 3): a ray (right, down, 1) to a pixel's index, whose middle lies half a pixel on."""
    return np.array(
        [
            [camera.focal_width * width, 0, 0.5 * width - 0.5],
            [0, camera.focal_height * height, camera.horizon * height - 0.5],
            [0, 0, 1],
        ]
    )
