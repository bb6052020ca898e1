"""Samples that are means of squares: the quadtree that places them, and reading them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sgaps.errors import MessageError
from sgaps.packing import (
    pack_floats,
    pack_footprints,
    pack_pixels,
    unpack_coords,
    unpack_pixels,
    unpack_together,
)
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import (
    FOOTPRINTS_PX,
    UV_STEPS,
    Coords,
    are_footprints,
    as_points,
    mosaic,
    sample_image,
)
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.sampling.quadtree import split_tiling
from sgaps.settings import load_settings

SIDES = st.integers(1, 130)


def blocks_of(coords: Coords, width: int, height: int) -> NDArray[np.intp]:
    """(N, 3): left, top, side in pixels; they must be whole numbers."""
    corners = coords[:, :2].astype(np.float64) * [width, height] - coords[:, 2:] / 2
    np.testing.assert_allclose(corners, np.round(corners), atol=1e-3)
    return np.column_stack([np.round(corners), coords[:, 2]]).astype(np.intp)


@given(SIDES, SIDES, st.integers(1, 1000), st.floats(0, 1), st.integers(0, 99))
def test_a_quadtree_gives_exactly_so_many_squares_inside_the_frame(
    width: int, height: int, count: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = min(count, width * height)
    importance = rng.random((int(rng.integers(1, 20)), int(rng.integers(1, 20))), np.float32)
    coords = split_tiling(
        importance, guided_share=share, count=count, width=width, height=height, rng=rng
    )
    assert coords.shape == (count, 3)
    assert np.isin(coords[:, 2], FOOTPRINTS_PX).all()
    blocks = blocks_of(coords, width, height)
    assert len(np.unique(blocks, axis=0)) == count
    assert blocks[:, :2].min() >= 0
    assert (blocks[:, :2] + blocks[:, 2:] <= [width, height]).all()
    assert (blocks[:, :2] % blocks[:, 2:] == 0).all()  # aligned, as in a mip level


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (160, 210), (84, 84)])
@pytest.mark.parametrize("count", [200, 500, 1000])
def test_its_leaves_cover_the_frame_once(width: int, height: int, count: int) -> None:
    rng = np.random.default_rng(0)
    importance = rng.random((30, 40), np.float32)
    coords = split_tiling(
        importance, guided_share=0.6, count=count, width=width, height=height, rng=rng
    )
    covered = np.zeros((height, width), int)
    for left, top, side in blocks_of(coords, width, height):
        covered[top : top + side, left : left + side] += 1
    assert (covered > 0).mean() > 0.95  # all but a strip at the border
    assert (covered > 1).sum() <= 2  # points where splitting by threes leaves two samples over


@pytest.mark.parametrize(
    ("width", "height", "count"), [(2, 500, 100), (3, 1000, 100), (8192, 3, 500)]
)
def test_a_narrow_frame_is_seen_in_squares_too(width: int, height: int, count: int) -> None:
    rng = np.random.default_rng(0)
    coords = split_tiling(
        NOTHING_KNOWN, guided_share=0.6, count=count, width=width, height=height, rng=rng
    )
    assert (coords[:, 2] == 2).mean() > 0.7  # the others are pixels beside them


@pytest.mark.parametrize(
    ("width", "height", "count", "covered"),
    [(1920, 1080, 500, 0.95), (1280, 720, 250, 0.95), (640, 480, 60, 0.79), (320, 240, 20, 0.85)],
)
def test_with_fewer_samples_than_blocks_the_largest_are_kept(
    width: int, height: int, count: int, covered: float
) -> None:
    rng = np.random.default_rng(0)
    coords = split_tiling(
        NOTHING_KNOWN, guided_share=0, count=count, width=width, height=height, rng=rng
    )
    assert (coords[:, 2] ** 2).sum() / (width * height) >= covered


def heaviest_first(importance: NDArray[np.float32], side: int, splits: int) -> set[tuple[int, ...]]:
    """Blocks of a frame whose pixels are the map's cells, one split at a time."""
    height, width = importance.shape
    leaves = [(x, y, side) for y in range(0, height, side) for x in range(0, width, side)]

    def mass(block: tuple[int, int, int]) -> float:
        x, y, side = block
        return float(importance[y : y + side, x : x + side].sum()) if side > 1 else -1

    for _ in range(splits):
        x, y, side = heaviest = max(leaves, key=mass)
        leaves.remove(heaviest)
        half = side // 2
        leaves += [(x + dx, y + dy, half) for dx in (0, half) for dy in (0, half)]
    return set(leaves)


@pytest.mark.parametrize("seed", range(5))
def test_the_heaviest_leaf_is_split_again_and_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    importance = rng.random((64, 96), np.float32) ** 8
    splits = 60  # of the 24 blocks of 16 pixels that are at most a quarter of 204 samples
    coords = split_tiling(
        importance, guided_share=1, count=24 + 3 * splits, width=96, height=64, rng=rng
    )
    blocks = {tuple(block) for block in blocks_of(coords, 96, 64).tolist()}
    assert blocks == heaviest_first(importance, 16, splits)


def test_importance_makes_squares_smaller() -> None:
    importance = np.zeros((30, 40), np.float32)
    importance[:, :10] = 1
    sampler = AdaptiveUVSampler(load_settings(environment={}).sampling, footprints=True)
    coords = sampler.sample(
        importance, count=500, width=320, height=240, rng=np.random.default_rng(0)
    )
    important = coords[:, 0] < 0.25
    assert coords[important, 2].mean() < 0.6 * coords[~important, 2].mean()
    assert coords[~important, 2].max() <= 32


def test_where_not_even_the_largest_squares_fit_most_lie_where_importance_is() -> None:
    importance = np.full((100, 160), 1e-3, np.float32)
    importance[:, :80] = 1
    coords = split_tiling(
        importance,
        guided_share=0.6,
        count=500,  # of 1,000 blocks of 64 pixels
        width=2560,
        height=1600,
        rng=np.random.default_rng(0),
    )
    assert (coords[:, 2] == 64).all()
    assert len(np.unique(coords[:, :2], axis=0)) == 500
    is_left = coords[:, 0] < 0.5
    assert is_left.sum() == pytest.approx(300 + 200 * 200 / 700, abs=30)


@pytest.mark.parametrize("is_upright", [False, True])
@pytest.mark.parametrize("thick_px", [1, 3])
def test_where_a_frame_is_so_thin_that_squares_are_pixels_most_lie_where_importance_is(
    thick_px: int, is_upright: bool
) -> None:
    importance = np.full((thick_px, 128), 1e-3, np.float32)
    importance[-1, 96:] = 1
    coords = split_tiling(
        importance.T if is_upright else importance,
        guided_share=0.6,
        count=100,
        width=thick_px if is_upright else 1024,
        height=1024 if is_upright else thick_px,
        rng=np.random.default_rng(0),
    )
    along, across = coords[:, [1, 0] if is_upright else [0, 1]].T
    assert ((along > 0.75) & (across > 1 - 1 / thick_px)).sum() >= 60


def test_even_squares_lie_elsewhere_in_every_frame() -> None:
    one, other = (
        split_tiling(
            NOTHING_KNOWN,
            guided_share=0,
            count=500,
            width=320,
            height=240,
            rng=np.random.default_rng(seed),
        )
        for seed in (0, 1)
    )
    same = set(map(tuple, one.tolist())) & set(map(tuple, other.tolist()))
    assert 50 < len(same) < 450


@given(SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_a_sample_is_the_mean_of_its_square(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width), dtype=np.uint8)
    count = min(60, width * height)
    coords = split_tiling(
        NOTHING_KNOWN, guided_share=0, count=count, width=width, height=height, rng=rng
    )
    samples = sample_image(image, coords)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples[:, [0, 1, 3]], coords)
    means = [image[y : y + n, x : x + n].mean() for x, y, n in blocks_of(coords, width, height)]
    np.testing.assert_allclose(samples[:, 2] * 255, np.round(means), atol=1e-3)


@given(SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_the_centre_of_each_pixel_reads_that_pixel(width: int, height: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    y, x = np.mgrid[0:height, 0:width].reshape(2, -1)
    centres = np.column_stack([(x + 0.5) / width, (y + 0.5) / height])
    samples = sample_image(image, as_points(np.round(centres, 6).astype(np.float32)))
    np.testing.assert_array_equal(np.round(samples[:, 2] * 255), image.ravel())


def test_the_corners_of_the_unit_square_are_inside() -> None:
    image = np.array([[10, 20], [30, 40]], np.uint8)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    read = sample_image(image, as_points(corners))
    np.testing.assert_allclose(read[:, 2] * 255, [10, 20, 30, 40])


@given(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), st.sampled_from(FOOTPRINTS_PX)
)
def test_a_square_across_the_border_is_cut_there(uv: tuple[float, float], side: int) -> None:
    image = np.full((5, 9), 100, np.uint8)
    read = sample_image(image, np.array([[*uv, side]], np.float32))
    np.testing.assert_allclose(read[:, 2] * 255, 100, rtol=1e-6)


@given(st.lists(st.sampled_from(FOOTPRINTS_PX), min_size=1, max_size=9))
def test_footprints_travel_as_bytes(sides: list[int]) -> None:
    footprints = np.array(sides, np.float32)
    data = pack_footprints(footprints)
    assert len(data) == (0 if set(sides) == {1} else len(sides))
    uv = pack_floats(np.zeros((len(sides), 2), np.float32))
    np.testing.assert_array_equal(unpack_coords(uv, data)[:, 2], footprints)


@given(st.floats(width=32) | st.sampled_from(FOOTPRINTS_PX) | st.integers(-300, 300))
def test_a_footprint_is_a_power_of_two(side: float) -> None:
    sides = np.array([1, side, 64], np.float32)
    assert are_footprints(sides) == bool(np.isin(sides, FOOTPRINTS_PX).all())


@pytest.mark.parametrize("data", [b"\x01", b"\x01\x03", b"\x00\x01", b"\x01\x80"])
def test_wrong_footprints_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="footprints"):
        unpack_coords(pack_floats(np.zeros((2, 2))), data)
    with pytest.raises(MessageError, match="footprints"):
        unpack_pixels(bytes(10), data)


def test_a_picture_in_color_is_sampled_channel_by_channel() -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    coords = np.array([[0.1, 0.2, 1], [0.4, 0.5333333, 8]], np.float32)
    samples = sample_image(image, coords)
    assert samples.shape == (2, 6)
    for channel in range(3):
        alone = sample_image(image[..., channel], coords)
        np.testing.assert_array_equal(samples[:, [0, 1, 2 + channel, 5]], alone)


@given(arrays(np.uint16, (7, 2)), arrays(np.uint8, 7))
def test_what_comes_in_the_steps_of_the_wire_is_packed_without_loss(
    uv: NDArray[np.uint16], values: NDArray[np.uint8]
) -> None:
    pixels = np.column_stack([uv.astype(np.float32) / UV_STEPS, values.astype(np.float32) / 255])
    packed = pack_pixels(pixels)
    assert packed == uv.astype("<u2").tobytes() + values.tobytes()
    samples = unpack_pixels(packed, bytes([8] * 7))
    np.testing.assert_array_equal(samples[:, :3], pixels)
    np.testing.assert_array_equal(samples[:, 3], 8)
    np.testing.assert_array_equal(unpack_pixels(packed, b"")[:, 3], 1)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=4))
def test_samples_of_many_frames_are_unpacked_as_those_of_each(
    frames: list[tuple[int, bool]],
) -> None:
    rng = np.random.default_rng(len(frames))
    packed = [
        (rng.bytes(5 * count), rng.choice([1, 8, 64], count).astype(np.uint8).tobytes() * squares)
        for count, squares in frames
    ]
    together = unpack_together(packed)
    for samples, one in zip(together, packed, strict=True):
        np.testing.assert_array_equal(samples, unpack_pixels(*one))
    for bad in ((bytes(4), b""), (bytes(5), bytes([3])), (bytes(10), bytes([8]))):
        with pytest.raises(MessageError):
            unpack_together([*packed, bad])


@pytest.mark.parametrize("size", [1, 4, 6])
def test_half_a_pixel_is_refused(size: int) -> None:
    with pytest.raises(MessageError, match="no pixels"):
        unpack_pixels(bytes(size), b"")


def test_a_mosaic_shows_every_sample_over_its_square() -> None:
    samples = np.array([[0.25, 0.5, 1, 4], [0.1875, 0.1875, 0.2, 1]], np.float32)
    shown = mosaic(samples, 8, 8)
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6, 0:4], expected[1, 1] = 255, 51
    np.testing.assert_array_equal(shown, expected)
