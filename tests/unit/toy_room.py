"""A room with painted walls, seen from anywhere: pictures whose geometry is known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.blend import Rebuilt
from sgaps.atlas.camera import Camera, Pose
from sgaps.atlas.pictures import encoded
from sgaps.manifest import AtlasCard
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import PoseLayout, load_settings
from sgaps_cli import capture
from sgaps_client.sources import GameFrame

WIDTH, HEIGHT = 160, 120
HALF_SIDE, CEILING = 200.0, 120.0
CAMERA = Camera(focal_width=0.5, focal_height=0.8, horizon=0.45)
LAYOUT = PoseLayout(values=(0, 1, 2, 3, 4), nearest=40.0)
KEY = "doom-room"
SENTINEL = -999.0
BAR_GRAY = 77
JPEG_QUALITY = 80
SAMPLES = 80
QUERY_STRIDE = 8
Picture = NDArray[np.uint8]


def pose_at(
    east: float, north: float, yaw_deg: float, *, up: float = 50, pitch_deg: float = 0
) -> Pose:
    return Pose(
        position=(east, north, up), yaw=math.radians(yaw_deg), pitch=math.radians(pitch_deg)
    )


def seen(pose: Pose, camera: Camera = CAMERA) -> NDArray[np.uint8]:
    """The picture (H, W) of a camera at a pose: every pixel's ray to the first wall."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    aside = (x / WIDTH - 0.5) / camera.focal_width
    down = (y / HEIGHT - camera.horizon) / camera.focal_height
    turn, lift = pose.yaw, pose.pitch
    ahead = (math.cos(lift) * math.cos(turn), math.cos(lift) * math.sin(turn), math.sin(lift))
    right = (math.sin(turn), -math.cos(turn), 0)
    up = (-math.sin(lift) * math.cos(turn), -math.sin(lift) * math.sin(turn), math.cos(lift))
    ray = [a + aside * r - down * u for a, r, u in zip(ahead, right, up, strict=True)]
    low, high = (-HALF_SIDE, -HALF_SIDE, 0.0), (HALF_SIDE, HALF_SIDE, CEILING)
    away = np.full(x.shape, np.inf)
    for axis in range(3):
        wall = np.where(ray[axis] > 0, high[axis], low[axis]) - pose.position[axis]
        with np.errstate(divide="ignore"):
            away = np.minimum(away, wall / ray[axis])
    return _painted(*(at + away * part for at, part in zip(pose.position, ray, strict=True)))


def _painted(
    east: NDArray[np.float64], north: NDArray[np.float64], up: NDArray[np.float64]
) -> NDArray[np.uint8]:
    waves = (
        np.sin(0.11 * east + 0.05 * north)
        + np.sin(0.17 * north - 0.13 * up)
        + np.sin(0.23 * up + 0.07 * east)
        + np.sin(0.031 * east - 0.043 * north + 1)
    )
    return np.round(128 + 30 * waves).astype(np.uint8)


def walk(count: int, seed: int = 0) -> list[Pose]:
    """Poses in the middle of the room, that look everywhere."""
    rng = np.random.default_rng(seed)
    low, high = (-90, -90, 0, 40), (90, 90, 360, 60)
    drawn = rng.uniform(low, high, (count, 4)).tolist()
    return [pose_at(east, north, yaw_deg, up=up) for east, north, yaw_deg, up in drawn]


def atlas_of(poses: list[Pose], *, camera: Camera = CAMERA, bar_rows: int = 0) -> Atlas:
    """Of what is seen from these poses; under a status bar of so many rows."""
    pictures = [seen(pose) for pose in poses]
    for picture in pictures if bar_rows else ():
        picture[-bar_rows:] = BAR_GRAY
    return Atlas.of(
        [encoded(picture, JPEG_QUALITY) for picture in pictures],
        poses,
        width=WIDTH,
        height=HEIGHT,
        layout=LAYOUT,
        camera=camera,
    )


def state_of(pose: Pose) -> NDArray[np.float32]:
    angles = math.degrees(pose.yaw), math.degrees(pose.pitch)
    return np.array([*pose.position, *angles], np.float32)


class _Walk:
    """A source of frames: what is seen from one pose after the other."""

    name = "doom/room"
    width, height = WIDTH, HEIGHT
    state_dim = 5

    def __init__(self, poses: list[Pose]) -> None:
        self._poses = poses

    def frames(self) -> Iterator[GameFrame]:
        for pose in self._poses:
            yield GameFrame(image=seen(pose), state=state_of(pose))

    def close(self) -> None:
        pass


def record(root: Path, session_id: str, poses: list[Pose]) -> None:
    """A session of whole frames, as `sgaps capture` records it."""
    capture.record(_Walk(poses), root, key=KEY, session_id=session_id, frames=None)


def psnr_db(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def blurred(picture: Picture) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(picture.astype(np.float32), (9, 9)), np.float32)


def squares_of(picture: Picture) -> NDArray[np.float32]:
    sampler = AdaptiveUVSampler(load_settings(environment={}).sampling, footprints=True)
    rng = np.random.default_rng(0)
    coords = sampler.sample(NOTHING_KNOWN, count=SAMPLES, width=WIDTH, height=HEIGHT, rng=rng)
    return sample_image(picture, coords)


def rebuilt_of(picture: Picture) -> Rebuilt:
    """As a model that has only seen it blurred, and says so."""
    frame = np.round(blurred(picture)).astype(np.uint8)
    error = np.sqrt(np.square(frame.astype(np.float32) - picture).mean()) / 255
    grid = (HEIGHT // QUERY_STRIDE, WIDTH // QUERY_STRIDE)
    return Rebuilt(frame, np.full(grid, math.log(error), np.float32))


def card_of(atlas: Atlas, data: bytes) -> AtlasCard:
    return AtlasCard(
        sha256="",
        bytes=len(data),
        pictures=len(atlas),
        width=atlas.width,
        height=atlas.height,
        layout=atlas.layout,
        camera=atlas.camera,
    )
