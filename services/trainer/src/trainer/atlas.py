"""From recordings to an atlas of their level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from tqdm import tqdm

from sgaps.atlas.atlas import Atlas, encoded, shows_the_same
from sgaps.atlas.camera import Camera, Pose, pose_of
from sgaps.atlas.sweep import MAX_SPREAD, Float32, recall
from sgaps.recording import SegmentInfo, SegmentReader
from sgaps.settings import PoseLayout, Settings
from trainer.dataset import decode_keyframe
from trainer.validation import spread

FEWEST_PICTURES = 32
PROBES = 16
"""Pictures by which a camera is judged."""
STEPS = (0.16, 0.08, 0.04, 0.02, 0.01)
"""Shares of a focal length by which a camera is changed to see whether it then fits better."""
HORIZON_STEP = 0.4
"""Heights of the picture, for a whole step."""
GUIDE_WINDOW_PX = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """A whole frame, and where it was seen from."""

    jpeg: bytes
    pose: Pose
    size: tuple[int, int]
    """Width and height."""


def build_atlas(
    checkpoint_key: str,
    segments: Sequence[SegmentInfo],
    settings: Settings,
    *,
    camera: Camera | None = None,
) -> Atlas | None:
    """The atlas of a level, from the whole frames of these segments.

    None where the key's states tell no pose, or too few frames came whole. A camera that is not
    known is found out. Raises RecordingCorrupt.
    """
    layout = settings.atlas.layout_of(checkpoint_key)
    if layout is None:
        return None
    views = list(_views(segments, layout, settings.sentinel_value))
    sizes = Counter(view.size for view in views)
    if not sizes or max(sizes.values()) < FEWEST_PICTURES:
        return None
    width, height = max(sizes, key=lambda size: sizes[size])
    views = [view for view in views if view.size == (width, height)]
    views = [views[i] for i in spread(len(views), settings.atlas.max_pictures)]
    atlas = Atlas.of(
        [view.jpeg for view in views],
        [view.pose for view in views],
        width=width,
        height=height,
        layout=layout,
        camera=camera or _square_pixels(width, height),
    )
    return atlas if camera else calibrated(atlas)


def _views(segments: Sequence[SegmentInfo], layout: PoseLayout, sentinel: float) -> Iterator[_View]:
    """Whole frames with a pose, but for those that show what the one before did."""
    for segment in segments:
        last: Pose | None = None
        with SegmentReader(segment.path) as reader:
            for position in reader.keyframe_positions.tolist():
                frame = reader.read(position)
                pose = pose_of(frame.state, layout, sentinel=sentinel)
                if pose is None or (last and shows_the_same(pose, last, layout)):
                    continue
                last = pose
                jpeg = encoded(decode_keyframe(frame))
                yield _View(jpeg=jpeg, pose=pose, size=(frame.width, frame.height))


def _square_pixels(width: int, height: int) -> Camera:
    """A field of view of 90 degrees."""
    return Camera(focal_width=0.5, focal_height=0.5 * width / height, horizon=0.5)


def calibrated(atlas: Atlas) -> Atlas:
    """The same with the camera by which its pictures show one another best.

    By turns the field of view, its height alone and the horizon are changed, by ever smaller steps.
    """
    best, error = atlas.camera, misfit(atlas)
    for step in tqdm(STEPS, desc="calibrate the camera", leave=False, disable=None):
        improved = True
        while improved:
            improved = False
            for camera in _beside(best, step):
                changed = misfit(replace(atlas, camera=camera))
                if changed < error:
                    best, error, improved = camera, changed, True
                    break
    return replace(atlas, camera=best)


def _beside(camera: Camera, step: float) -> Iterator[Camera]:
    """Cameras a step away."""
    wide, high, horizon = camera.focal_width, camera.focal_height, camera.horizon
    for sign in (1, -1):
        factor = (1 + step) ** sign
        yield Camera(focal_width=wide * factor, focal_height=high * factor, horizon=horizon)
        yield Camera(focal_width=wide, focal_height=high * factor, horizon=horizon)
        moved = min(max(horizon + sign * step * HORIZON_STEP, 0), 1)
        yield Camera(focal_width=wide, focal_height=high, horizon=moved)


def misfit(atlas: Atlas) -> float:
    """Mean error in grey levels of pictures that are shown by the others."""
    return float(np.mean([_error_of(atlas, index) for index in spread(len(atlas), PROBES)]))


def _error_of(atlas: Atlas, index: int) -> float:
    truth = atlas.picture(index).astype(np.float32)
    guide = _blurred(truth)
    recalled = recall(atlas, atlas.poses[index], guide, but=frozenset({index}))
    if recalled is None:
        return MAX_SPREAD
    error = np.minimum(np.abs(recalled.picture - truth), MAX_SPREAD)
    return float(np.where(recalled.is_seen, error, MAX_SPREAD).mean())


def _blurred(picture: Float32) -> Float32:
    return np.asarray(cv2.blur(picture, (GUIDE_WINDOW_PX, GUIDE_WINDOW_PX)), np.float32)
