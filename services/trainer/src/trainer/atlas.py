"""From recordings to an atlas of their level."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from tqdm import tqdm

from sgaps.atlas.atlas import Atlas, apart, places_of, shows_the_same
from sgaps.atlas.camera import FOCAL_LIMITS, Camera, Pose, pose_of
from sgaps.atlas.pictures import blurred, encoded
from sgaps.atlas.sweep import MAX_SPREAD, recall
from sgaps.manifest import MAX_ATLAS_BYTES, MAX_ATLAS_PIXELS
from sgaps.recording import SegmentInfo
from sgaps.settings import PoseLayout, Settings
from trainer.segments import KeyframeCorrupt, is_good, open_segment, whole_frame
from trainer.validation import spread

log = logging.getLogger(__name__)

FEWEST_PICTURES = 32
BYTES_BESIDE = 1 << 20
"""Of an atlas, for what is not pictures."""
PROBES = 16
"""Pictures by which a camera is judged."""
STEPS = (0.16, 0.08, 0.04, 0.02, 0.01)
"""Shares of a focal length by which a camera is changed to see whether it then fits better."""
STEPS_FROM_A_KNOWN_ONE = STEPS[-1:]
HORIZON_STEP = 0.4
"""Heights of the picture, for a whole step."""
GUIDE_WINDOW_PX = 9
Pictures: TypeAlias = Mapping[Pose, Callable[[], bytes]]
"""How to get the JPEG that was seen from a pose."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A whole frame of a recording, and where it was seen from."""

    segment: SegmentInfo
    position: int
    pose: Pose
    size: tuple[int, int]
    """Width and height."""

    def jpeg(self, quality: int) -> bytes:
        reader = open_segment(self.segment)
        return encoded(whole_frame(reader, reader.read(self.position)), quality)


def build_atlas(
    checkpoint_key: str,
    segments: Sequence[SegmentInfo],
    settings: Settings,
    *,
    stop: threading.Event,
    known: Atlas | None = None,
) -> Atlas | None:
    """The atlas of a level, from the whole frames of these segments and from what was known.

    None where the key's states tell no pose, too few frames came whole, or it was told to stop.
    Raises RecordingCorrupt.
    """
    layout = settings.atlas.layout_of(checkpoint_key)
    if layout is None:
        return None
    if known and known.layout != layout:
        known = None
    views = list(views_of(segments, layout, settings.sentinel_value))
    (width, height), count = _size_and_count(views, known)
    most = min(settings.atlas.max_pictures, MAX_ATLAS_PIXELS // (width * height))
    camera = _square_pixels(width, height)
    if min(count, most) < FEWEST_PICTURES or camera is None:
        log.info(
            "no atlas of %s: %d whole frames of one size tell where the eye is; %d are needed",
            checkpoint_key,
            count,
            FEWEST_PICTURES,
        )
        return None
    if known and (known.width, known.height) != (width, height):
        known = None
    quality = settings.atlas.jpeg_quality
    usable = (view for view in views if view.size == (width, height))
    pictures: Pictures = {view.pose: partial(view.jpeg, quality) for view in usable}
    if known:
        old = zip(known.poses, known.pictures, strict=True)
        pictures = {**{pose: partial(bytes, jpeg) for pose, jpeg in old}, **pictures}
    chosen = _chosen(pictures, most, layout, stop)
    if stop.is_set() or not chosen:
        return None
    atlas = Atlas.of(
        list(chosen.values()),
        list(chosen),
        width=width,
        height=height,
        layout=layout,
        camera=known.camera if known else camera,
        trust=known.trust if known else None,
    )
    return calibrated(atlas, STEPS_FROM_A_KNOWN_ONE if known else STEPS, stop)


def _size_and_count(views: Sequence[View], known: Atlas | None) -> tuple[tuple[int, int], int]:
    """The size of the pictures of an atlas, and how many there are to choose from.

    What was known stays until there are more of another size.
    """
    sizes = _whole_sizes(views)
    if known:
        sizes[known.width, known.height] += len(known)
    return next(iter(sizes.most_common(1)), ((1, 1), 0))


def _whole_sizes(views: Sequence[View]) -> Counter[tuple[int, int]]:
    """How many there are of each size of which one can be decoded."""
    sizes = Counter(view.size for view in views)
    for size in list(sizes):
        if not any(is_good(view.segment, view.position) for view in views if view.size == size):
            del sizes[size]
    return sizes


def views_of(
    segments: Sequence[SegmentInfo], layout: PoseLayout, sentinel: float
) -> Iterator[View]:
    """Whole frames with a pose, but for those that show what the one before did."""
    for segment in segments:
        reader, last = open_segment(segment, sentinel), None
        for position in reader.keyframe_positions.tolist():
            pose = pose_of(reader.state(position), layout, sentinel=sentinel)
            if pose and not (last and shows_the_same(pose, last, layout)):
                last, size = pose, reader.resolution(position)
                yield View(segment=segment, position=position, pose=pose, size=size)


def _chosen(
    pictures: Pictures, most: int, layout: PoseLayout, stop: threading.Event
) -> dict[Pose, bytes]:
    """At most so many, from all over the level, and no more bytes than an atlas may have."""
    chosen: dict[Pose, bytes] = {}
    for pose in far_apart(list(pictures), most, layout, stop):
        if stop.is_set():
            return {}
        with suppress(KeyframeCorrupt):
            chosen[pose] = pictures[pose]()
    most_bytes = MAX_ATLAS_BYTES - BYTES_BESIDE
    # More than once where those that lie farthest apart are larger than the others.
    while (size_bytes := sum(map(len, chosen.values()))) > most_bytes:
        fewer = len(chosen) * most_bytes // size_bytes * 9 // 10
        if not fewer:
            return {}
        chosen = {pose: chosen[pose] for pose in far_apart(list(chosen), fewer, layout, stop)}
    return chosen


def far_apart(
    poses: Sequence[Pose], most: int, layout: PoseLayout, stop: threading.Event
) -> list[Pose]:
    """At most so many, each as far as can be from those before it (Gonzalez 1985).

    What was seen from somewhere odd is always among them.
    """
    if len(poses) <= most:
        return list(poses)
    places = places_of(poses)
    chosen, away = [0], np.full(len(poses), np.inf)
    while len(chosen) < most and not stop.is_set():
        away = np.minimum(away, apart(places, poses[chosen[-1]], layout))
        if not away.any():
            break
        chosen.append(int(away.argmax()))
    return [poses[index] for index in chosen]


def _square_pixels(width: int, height: int) -> Camera | None:
    """A field of view of 90 degrees; None of pictures too narrow or too wide for any camera."""
    return _camera(0.5, 0.5 * width / height, 0.5)


def _camera(focal_width: float, focal_height: float, horizon: float) -> Camera | None:
    low, high = FOCAL_LIMITS
    if not (low <= focal_width <= high and low <= focal_height <= high and 0 <= horizon <= 1):
        return None
    return Camera(focal_width=focal_width, focal_height=focal_height, horizon=horizon)


def calibrated(atlas: Atlas, steps: Sequence[float], stop: threading.Event) -> Atlas:
    """The same with the camera by which its pictures show one another best.

    By turns the field of view, its height alone and the horizon are changed, by ever smaller steps.
    """
    error = misfit(atlas)
    for step in tqdm(steps, desc="calibrate the camera", leave=False, disable=None):
        while not stop.is_set():
            others = (replace(atlas, camera=camera) for camera in _beside(atlas.camera, step))
            judged = ((misfit(other), other) for other in others)
            better = next(((e, other) for e, other in judged if e < error), None)
            if better is None:
                break
            error, atlas = better
    log.info("%s, by which pictures are off by %.1f grey levels", atlas.camera, error)
    return atlas


def _beside(camera: Camera, step: float) -> Iterator[Camera]:
    """Cameras a step away."""
    wide, high, horizon = camera.focal_width, camera.focal_height, camera.horizon
    for sign in (1, -1):
        factor, moved = (1 + step) ** sign, horizon + sign * step * HORIZON_STEP
        tried = (
            _camera(wide * factor, high * factor, horizon),
            _camera(wide, high * factor, horizon),
            _camera(wide, high, moved),
        )
        yield from filter(None, tried)


def misfit(atlas: Atlas) -> float:
    """Mean error in grey levels of pictures that are shown by the others."""
    return float(np.mean([_error_of(atlas, index) for index in spread(len(atlas), PROBES)]))


def _error_of(atlas: Atlas, index: int) -> float:
    truth = atlas.picture(index).astype(np.float32)
    guide = blurred(truth, GUIDE_WINDOW_PX)
    recalled = recall(atlas, atlas.poses[index], guide, but=frozenset({index}))
    if recalled is None:
        return MAX_SPREAD
    error = np.minimum(np.abs(recalled.picture - truth), MAX_SPREAD)
    return float(np.where(recalled.is_seen, error, MAX_SPREAD).mean())
