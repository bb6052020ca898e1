"""The adaptive sampler: spacing wherever it fits, even draws, no map that breaks it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import as_points
from sgaps.sampling.importance import (
    AttentionEntropyImportanceCalculator,
    PredictedErrorImportanceCalculator,
    importance_to_bytes,
)
from sgaps.sampling.patterns import UV, sample_pattern
from sgaps.settings import PatternName, SamplingSettings

Calculator = AttentionEntropyImportanceCalculator | PredictedErrorImportanceCalculator
CALCULATORS = [AttentionEntropyImportanceCalculator, PredictedErrorImportanceCalculator]
MAPS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0), elements=st.floats(width=32)
)
FRAMES = st.sampled_from([(1, 1), (3, 2), (1, 40), (17, 23), (64, 1)])


def settings_of(
    *, min_spacing_px: int = 3, importance_share: float = 0.6, pattern: PatternName = "random"
) -> SamplingSettings:
    return SamplingSettings(
        pattern=pattern,
        default_sample_count=500,
        importance_share=importance_share,
        min_spacing_px=min_spacing_px,
        seed=0,
    )


def pixels_of(coords: UV, width: int, height: int) -> NDArray[np.intp]:
    return (coords[:, :2] * [width, height]).astype(np.intp)  # (N, 2): x, y


def closest_px(coords: UV, width: int, height: int) -> int:
    pixels = pixels_of(coords, width, height)
    apart = np.abs(pixels[:, None] - pixels[None]).max(axis=-1)  # (N, N)
    np.fill_diagonal(apart, max(width, height))
    return int(apart.min())


def smooth_map() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((10, 10), dtype=np.float32)


def one_hot_cell() -> NDArray[np.float32]:
    hot = np.zeros((10, 10), np.float32)
    hot[4, 4] = 1
    return hot


@given(MAPS, FRAMES, st.floats(0, 1), st.integers(1, 10**9), st.data())
def test_any_map_and_any_frame_give_exactly_so_many_pixel_centres(
    importance: NDArray[np.float32],
    frame: tuple[int, int],
    share: float,
    min_spacing_px: int,
    data: st.DataObject,
) -> None:
    width, height = frame
    count = data.draw(st.integers(1, width * height))
    settings = settings_of(
        min_spacing_px=min_spacing_px,
        importance_share=share,
        pattern=data.draw(st.sampled_from(get_args(PatternName))),
    )
    coords = AdaptiveUVSampler(settings, footprints=False).sample(
        importance, count=count, width=width, height=height, rng=np.random.default_rng(0)
    )
    pixels = pixels_of(coords, width, height)
    assert coords.shape == (count, 3)
    assert coords.dtype == np.float32
    assert len(np.unique(pixels, axis=0)) == count
    np.testing.assert_allclose(coords[:, :2] * [width, height], pixels + 0.5, atol=1e-4)


@given(MAPS, FRAMES, st.data())
def test_any_map_gives_squares(
    importance: NDArray[np.float32], frame: tuple[int, int], data: st.DataObject
) -> None:
    width, height = frame
    count = data.draw(st.integers(1, width * height))
    coords = AdaptiveUVSampler(settings_of(), footprints=True).sample(
        importance, count=count, width=width, height=height, rng=np.random.default_rng(0)
    )
    assert coords.shape == (count, 3)
    assert np.isfinite(coords).all()


@pytest.mark.parametrize("count", [0, 7])
@pytest.mark.parametrize("importance", [one_hot_cell(), np.ones((2, 2), np.float32)])
def test_impossible_counts_are_refused(importance: NDArray[np.float32], count: int) -> None:
    with pytest.raises(ValueError, match="3x2"):
        AdaptiveUVSampler(settings_of(), footprints=False).sample(
            importance, count=count, width=3, height=2, rng=np.random.default_rng(0)
        )


@pytest.mark.parametrize("importance", [smooth_map(), one_hot_cell()], ids=["smooth", "hot"])
@pytest.mark.parametrize(
    ("width", "height", "count", "asked_px", "kept_px"),
    [
        (320, 240, 500, 3, 3),
        (320, 240, 500, 8, 8),
        (84, 84, 500, 3, 3),
        (160, 120, 500, 4, 4),
        (48, 48, 300, 3, 2),  # room for 16x16 at 3 px
        (84, 84, 400, 4, 3),  # room for 21x21 at 4 px, but not where samples fall at random
        (320, 240, 500, 12, 9),
    ],
)
def test_spacing_shrinks_no_further_than_it_must(
    importance: NDArray[np.float32],
    width: int,
    height: int,
    count: int,
    asked_px: int,
    kept_px: int,
) -> None:
    sampler = AdaptiveUVSampler(
        settings_of(min_spacing_px=asked_px, pattern="jittered_grid"), footprints=False
    )
    for seed in range(5):
        coords = sampler.sample(
            importance, count=count, width=width, height=height, rng=np.random.default_rng(seed)
        )
        assert closest_px(coords, width, height) >= kept_px


def test_draws_follow_importance_evenly() -> None:
    """Systematic resampling: within one of the expectation, but for two draws of one pixel."""
    importance = np.linspace(1, 3, 40, dtype=np.float32).reshape(5, 8)
    expected = 300 * importance / importance.sum()
    sampler = AdaptiveUVSampler(
        settings_of(importance_share=1.0, min_spacing_px=1), footprints=False
    )
    for seed in range(10):
        coords = sampler.sample(
            importance, count=300, width=320, height=200, rng=np.random.default_rng(seed)
        )
        counts, _, _ = np.histogram2d(coords[:, 1], coords[:, 0], bins=(5, 8), range=[[0, 1]] * 2)
        assert np.abs(counts - expected).max() < 2.5


def test_what_is_not_placed_by_importance_leaves_no_hole() -> None:
    """It is a pattern of its own size: part of a larger one, drawn at random, has holes."""
    importance = np.zeros((24, 32), np.float32)
    importance[:, :8] = 1
    sampler = AdaptiveUVSampler(settings_of(pattern="uniform_grid"), footprints=False)
    for seed in range(5):
        coords = sampler.sample(
            importance, count=500, width=320, height=240, rng=np.random.default_rng(seed)
        )
        calm = coords[coords[:, 0] > 0.25]
        counts, _, _ = np.histogram2d(
            calm[:, 0], calm[:, 1], bins=(6, 6), range=[[0.25, 1.0], [0, 1]]
        )
        assert counts.min() >= 2


def test_the_same_generator_state_gives_the_same_samples() -> None:
    sampler = AdaptiveUVSampler(settings_of(), footprints=False)
    one, same, other = (
        sampler.sample(
            smooth_map(), count=500, width=320, height=240, rng=np.random.default_rng(seed)
        )
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_one_impossible_cell_makes_the_map_blind(value: float) -> None:
    importance = smooth_map()
    importance[3, 3] = value
    coords = AdaptiveUVSampler(settings_of(pattern="uniform_grid"), footprints=False).sample(
        importance, count=192, width=320, height=240, rng=np.random.default_rng(0)
    )
    expected = sample_pattern(
        "uniform_grid", count=192, width=320, height=240, rng=np.random.default_rng(0)
    )
    np.testing.assert_array_equal(coords, as_points(expected))


@given(MAPS, st.sampled_from(CALCULATORS))
def test_importance_of_any_map_is_finite_and_fits_a_byte(
    values: NDArray[np.float32], calculator: type[Calculator]
) -> None:
    importance = calculator(1e-9)(values)
    assert importance.shape == values.shape
    assert importance.dtype == np.float32
    assert ((importance >= 0) & (importance <= 1)).all()
    assert len(importance_to_bytes(importance)) == values.size


def test_a_span_beyond_float32_is_normalised() -> None:
    importance = AttentionEntropyImportanceCalculator(1e-9)(
        np.array([[-3e38, 3e38, 0]], np.float32)
    )
    np.testing.assert_allclose(importance, [[0, 1, 0.5]])
