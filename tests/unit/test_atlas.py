"""The atlas: geometry, what is recalled of a room, how it is mixed in, and its file."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgaps.atlas.atlas import Atlas, shows_the_same
from sgaps.atlas.blend import Rebuilt, with_atlas
from sgaps.atlas.camera import Pose, pose_of, warp
from sgaps.atlas.file import from_bytes, to_bytes
from sgaps.atlas.sweep import recall
from sgaps.errors import CheckpointRejected
from sgaps.sampling.footprints import as_points, sample_image
from unit.toy_room import (
    BAR_GRAY,
    CAMERA,
    HEIGHT,
    LAYOUT,
    SAMPLES,
    SENTINEL,
    WIDTH,
    Picture,
    atlas_of,
    blurred,
    card_of,
    pose_at,
    psnr_db,
    rebuilt_of,
    seen,
    squares_of,
    state_of,
    walk,
)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return atlas_of(walk(120))


def served(atlas: Atlas, pose: Pose, **changes: object) -> tuple[Picture, Rebuilt, Rebuilt]:
    """The truth, what a model made of it, and what it is with the atlas."""
    truth = seen(pose)
    before = rebuilt_of(truth)
    arguments = {"samples": squares_of(truth), "state": state_of(pose), "sentinel": SENTINEL}
    after = with_atlas(atlas, before, **(arguments | changes))  # type: ignore[arg-type]
    return truth, before, after


angles = st.floats(-180, 180)
places = st.floats(-150, 150)


@given(places, places, angles, st.floats(-40, 40), st.floats(1, 300), st.data())
def test_a_pixel_is_warped_to_where_its_point_is_seen(
    east: float,
    north: float,
    yaw: float,
    pitch: float,
    away: float,
    data: st.DataObject,
) -> None:
    one = pose_at(east, north, yaw, pitch_deg=pitch)
    other = pose_at(north, east, 2 * yaw, up=20, pitch_deg=-pitch)
    x, y = data.draw(st.floats(0, WIDTH - 1)), data.draw(st.floats(0, HEIGHT - 1))
    right, down, ahead = one.camera_from_world
    aside = ((x + 0.5) / WIDTH - 0.5) / CAMERA.focal_width
    below = ((y + 0.5) / HEIGHT - CAMERA.horizon) / CAMERA.focal_height
    point = np.array(one.position) + away * (ahead + aside * right + below * down)
    seen_right, seen_down, depth = other.camera_from_world @ (point - other.position)
    assume(abs(depth) > 1e-3)
    onto = warp(one, other, CAMERA, width=WIDTH, height=HEIGHT)
    at = onto.turn @ (x, y, 1) + onto.shift / away
    assert at[2] * away == pytest.approx(depth, abs=1e-6)
    np.testing.assert_allclose(at, onto.plane(1 / away) @ (x, y, 1), atol=1e-9)
    expected_x = (CAMERA.focal_width * seen_right / depth + 0.5) * WIDTH - 0.5
    expected_y = (CAMERA.focal_height * seen_down / depth + CAMERA.horizon) * HEIGHT - 0.5
    np.testing.assert_allclose(at[:2] / at[2], (expected_x, expected_y), rtol=1e-6, atol=1e-6)


@given(angles, st.floats(-80, 80))
def test_a_pose_is_a_rotation(yaw: float, pitch: float) -> None:
    rotation = pose_at(0, 0, yaw, pitch_deg=pitch).camera_from_world
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_a_state_tells_a_pose() -> None:
    pose = pose_of(np.array([1, 2, 3, 90, 30, 7], np.float32), LAYOUT, sentinel=SENTINEL)
    assert pose == pose_at(1, 2, 90, up=3, pitch_deg=30)
    without_pitch = LAYOUT.model_copy(update={"values": (3, 2, 1, 0)})
    pose = pose_of(np.array([90, 3, 2, 1], np.float32), without_pitch, sentinel=SENTINEL)
    assert pose == pose_at(1, 2, 90, up=3)


@pytest.mark.parametrize(
    "state",
    [
        [],
        [1, 2, 3, 90],
        [1, 2, SENTINEL, 90, 0],
        [1, math.nan, 3, 90, 0],
        [1, 2, 3, math.inf, 0],
        [1, 2, 3, 90, -math.inf],
        [1e30, 2, 3, 90, 0],
    ],
)
def test_a_state_that_lacks_a_value_tells_none(state: list[float]) -> None:
    assert pose_of(np.array(state, np.float32), LAYOUT, sentinel=SENTINEL) is None


def test_a_value_is_missing_whose_sentinel_no_float32_is() -> None:
    state = np.array([1, 2, -999.9, 90, 0], np.float32)
    assert pose_of(state, LAYOUT, sentinel=-999.9) is None


@pytest.mark.parametrize("pitch_deg", [0.0, 12.0, -12.0])
def test_a_picture_is_recalled_from_where_none_was_taken(pitch_deg: float) -> None:
    looking = [replace(pose, pitch=math.radians(pitch_deg)) for pose in walk(120)]
    atlas = atlas_of(looking)
    recalled_db, nearest_db, share = [], [], []
    for pose in walk(12, seed=1):
        pose = replace(pose, pitch=math.radians(pitch_deg))  # noqa: PLW2901
        truth = seen(pose)
        recalled = recall(atlas, pose, blurred(truth))
        assert recalled is not None
        shown = recalled.is_seen
        share.append(shown.mean())
        recalled_db.append(psnr_db(recalled.picture[shown], truth[shown]))
        nearest_db.append(psnr_db(atlas.picture(atlas.nearest(pose, 1)[0]), truth))
    assert np.mean(share) > 0.9
    assert np.mean(recalled_db) > 26
    assert np.mean(recalled_db) > np.mean(nearest_db) + 10


def test_the_nearest_pictures_show_what_is_seen_and_are_not_all_the_same(atlas: Atlas) -> None:
    pose = walk(1, seed=2)[0]
    chosen = atlas.nearest(pose, 5)
    assert len(chosen) == len(set(chosen)) == 5
    for index in chosen:
        turn = abs(math.remainder(atlas.poses[index].yaw - pose.yaw, math.tau))
        assert turn < math.radians(80)
    assert chosen[0] not in atlas.nearest(pose, 5, but=frozenset(chosen[:1]))
    twins = atlas_of([*walk(10), *walk(10)])
    chosen = twins.nearest(pose, 5)
    for place, one in enumerate(chosen):
        for other in chosen[:place]:
            assert not shows_the_same(twins.poses[one], twins.poses[other], LAYOUT)


def test_pictures_that_look_up_or_down_differ() -> None:
    level, up, down = (pose_at(0, 0, 0, pitch_deg=pitch_deg) for pitch_deg in (0, 20, -50))
    assert not shows_the_same(level, up, LAYOUT)
    assert shows_the_same(up, pose_at(1, 0, 1, pitch_deg=20), LAYOUT)
    assert atlas_of([down, level, up]).nearest(up, 3) == [2, 1, 0]
    assert atlas_of([down, level]).nearest(pose_at(0, 0, 0, pitch_deg=40), 3) == [1]


def test_where_no_two_pictures_show_anything_nothing_is_recalled() -> None:
    atlas = atlas_of([pose_at(0, 0, 0), pose_at(10, 0, 0)])
    truth = seen(pose_at(0, 0, 180))
    assert recall(atlas, pose_at(0, 0, 180), blurred(truth)) is None
    assert recall(atlas, pose_at(0, 0, 0), blurred(truth), but=frozenset({1})) is None
    assert recall(atlas, pose_at(5, 0, 0), blurred(truth)) is not None


def test_what_is_painted_on_the_screen_is_not_in_the_level() -> None:
    bar_rows = 32
    atlas = atlas_of(walk(120), bar_rows=bar_rows)
    assert (atlas.scenery[-bar_rows // 4 :] == 0).all()
    assert atlas.scenery[: -bar_rows // 4].mean() > 250
    unaware = replace(atlas)
    unaware.__dict__["scenery"] = np.full_like(atlas.scenery, 255)
    bars = {"aware": 0, "fooled": 0}
    for pose in walk(6, seed=3):
        truth = seen(pose)
        for name, known in (("aware", atlas), ("fooled", unaware)):
            recalled = recall(known, pose, blurred(truth))
            assert recalled is not None
            shows_bar = recalled.is_seen & (np.abs(recalled.picture - BAR_GRAY) < 2)
            bars[name] += int((shows_bar & (np.abs(truth - recalled.picture) > 30)).sum())
    assert bars["aware"] < 0.2 * bars["fooled"]


def test_a_frame_gains_where_the_level_is_known(atlas: Atlas) -> None:
    gains, told_gains = [], []
    for pose in walk(12, seed=1):
        truth, before, after = served(atlas, pose)
        gains.append(psnr_db(after.frame, truth) - psnr_db(before.frame, truth))
        told_gains.append(20 / math.log(10) * float((before.log_error - after.log_error).mean()))
        assert after.log_error.shape == before.log_error.shape
        means = sample_image(after.frame, squares_of(truth)[:, [0, 1, 3]])[:, 2]
        np.testing.assert_allclose(means, squares_of(truth)[:, 2], atol=2 / 255)
    assert np.mean(gains) > 3
    assert np.mean(told_gains) > 1


def test_a_wrong_pose_costs_less_than_half_of_what_the_right_one_gains(atlas: Atlas) -> None:
    gains, costs = [], []
    for pose, wrong in zip(walk(12, seed=1), walk(12, seed=9), strict=True):
        truth, before, right = served(atlas, pose)
        _, _, fooled = served(atlas, pose, state=state_of(wrong))
        gains.append(psnr_db(right.frame, truth) - psnr_db(before.frame, truth))
        costs.append(psnr_db(before.frame, truth) - psnr_db(fooled.frame, truth))
    assert np.mean(costs) < 0.5 * np.mean(gains)


def test_points_bear_it_out_too(atlas: Atlas) -> None:
    pose = walk(1, seed=1)[0]
    coords = np.random.default_rng(0).random((SAMPLES, 2), np.float32)
    points = sample_image(seen(pose), as_points(coords))
    truth, before, after = served(atlas, pose, samples=points)
    assert psnr_db(after.frame, truth) > psnr_db(before.frame, truth) + 1


def test_points_at_the_corners_of_pixels_are_judged_by_the_pixels_they_are_of(
    atlas: Atlas,
) -> None:
    """As a client may send them, which divides whole numbers by the width."""
    pose, wrong = walk(1, seed=1)[0], state_of(walk(1, seed=2)[0])
    x, y = np.meshgrid(np.arange(0, WIDTH, 20), np.arange(0, HEIGHT, 15))
    corners = np.stack([x / WIDTH, y / HEIGHT], -1).reshape(-1, 2).astype(np.float32)
    middles = corners + np.array([0.5 / WIDTH, 0.5 / HEIGHT], np.float32)
    at_corners, at_middles = (
        served(atlas, pose, samples=sample_image(seen(pose), as_points(places)), state=wrong)[2]
        for places in (corners, middles)
    )
    np.testing.assert_array_equal(at_corners.frame, at_middles.frame)


@pytest.mark.parametrize("value", [math.nan, math.inf, 500.0, 5.0, -math.inf])
def test_a_head_that_tells_nonsense_spoils_no_frame(atlas: Atlas, value: float) -> None:
    pose = walk(1, seed=1)[0]
    truth, before, good = served(atlas, pose)
    log_error = before.log_error.copy()
    log_error[2, 3] = value
    after = with_atlas(
        atlas,
        Rebuilt(before.frame, log_error),
        samples=squares_of(truth),
        state=state_of(pose),
        sentinel=SENTINEL,
    )
    assert psnr_db(after.frame, truth) > psnr_db(good.frame, truth) - 0.5
    others = np.ones(log_error.shape, np.bool_)
    others[2, 3] = False
    assert np.isfinite(after.log_error[others]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"state": np.empty(0, np.float32)},
        {"state": np.full(5, SENTINEL, np.float32)},
        {"state": state_of(pose_at(1e30, -1e30, 1e20))},
        {"samples": np.empty((0, 4), np.float32)},
    ],
)
def test_without_a_pose_or_samples_the_frame_stays(
    atlas: Atlas, changes: dict[str, object]
) -> None:
    _, before, after = served(atlas, pose_at(0, 0, 0), **changes)
    np.testing.assert_array_equal(after.frame, before.frame)
    np.testing.assert_array_equal(after.log_error, before.log_error)


def test_a_frame_of_another_size_stays(atlas: Atlas) -> None:
    before = Rebuilt(np.zeros((HEIGHT, WIDTH - 1), np.uint8), np.zeros((9, 12), np.float32))
    samples = squares_of(seen(pose_at(0, 0, 0)))
    state = state_of(pose_at(0, 0, 0))
    assert with_atlas(atlas, before, samples=samples, state=state, sentinel=SENTINEL) is before


def test_an_atlas_is_what_it_was_before_it_was_written() -> None:
    atlas = atlas_of(walk(6))
    data = to_bytes(atlas)
    again = from_bytes(data, card_of(atlas, data))
    assert again.poses == atlas.poses
    assert again.pictures == atlas.pictures
    assert (again.width, again.height, again.layout, again.camera) == (
        atlas.width,
        atlas.height,
        LAYOUT,
        CAMERA,
    )
    np.testing.assert_array_equal(again.scenery, atlas.scenery)


def test_an_atlas_takes_the_room_of_its_jpegs() -> None:
    atlas = atlas_of(walk(60))
    data = to_bytes(atlas)
    card = card_of(atlas, data)
    tracemalloc.start()
    try:
        again = from_bytes(data, card)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(again) == len(atlas)
    assert kept_bytes < 1.1 * len(data)


@pytest.mark.parametrize("numbers", [{"pictures": 5}, {"width": WIDTH + 1}, {"height": HEIGHT - 1}])
def test_a_card_of_another_atlas_is_refused(numbers: dict[str, int]) -> None:
    atlas = atlas_of(walk(6))
    data = to_bytes(atlas)
    with pytest.raises(CheckpointRejected):
        from_bytes(data, card_of(atlas, data).model_copy(update=numbers))
