"""Patterns, importance, the adaptive sampler, the scheduler."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import as_points
from sgaps.sampling.importance import AttentionEntropyImportanceCalculator, importance_to_bytes
from sgaps.sampling.patterns import UV, sample_pattern
from sgaps.sampling.schedule import MaskUpdateScheduler
from sgaps.settings import (
    MaskUpdateSettings,
    PatternName,
    SamplingSettings,
    Settings,
    UpdateStrategy,
)

PATTERNS: tuple[PatternName, ...] = get_args(PatternName)
BLIND_MAPS = [
    np.full((3, 4), 0.5, np.float32),
    np.zeros((3, 4), np.float32),
    np.array([[np.nan, 1.0]], np.float32),
    np.array([[np.inf, 1.0]], np.float32),
    np.zeros((0, 0), np.float32),
]


def pixels_of(coords: UV, width: int, height: int) -> np.ndarray:
    assert coords.dtype == np.float32
    assert coords[:, :2].min() > 0
    assert coords[:, :2].max() < 1
    return (coords[:, :2] * [width, height]).astype(int)


@st.composite
def frames(draw: st.DrawFn) -> tuple[int, int, int]:
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return width, height, draw(st.integers(1, width * height))


@given(st.sampled_from(PATTERNS), frames(), st.integers(0, 99))
def test_a_pattern_has_exactly_so_many_different_pixel_centres(
    name: PatternName, frame: tuple[int, int, int], seed: int
) -> None:
    width, height, count = frame
    rng = np.random.default_rng(seed)
    coords = sample_pattern(name, count=count, width=width, height=height, rng=rng)
    pixels = pixels_of(coords, width, height)
    assert coords.shape == (count, 2)
    assert len(np.unique(pixels, axis=0)) == count
    np.testing.assert_allclose(coords[:, :2] * [width, height], pixels + 0.5, atol=1e-4)


@pytest.mark.parametrize("count", [0, 13])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="4x3"):
        sample_pattern("random", count=count, width=4, height=3, rng=np.random.default_rng(0))


def test_the_uniform_grid_respects_the_aspect_ratio() -> None:
    coords = sample_pattern(
        "uniform_grid", count=192, width=320, height=240, rng=np.random.default_rng(0)
    )
    assert (len(np.unique(coords[:, 0])), len(np.unique(coords[:, 1]))) == (16, 12)


@pytest.mark.parametrize("name", ["uniform_grid", "stratified", "checkerboard", "jittered_grid"])
def test_a_spread_pattern_leaves_no_hole(name: PatternName) -> None:
    coords = sample_pattern(name, count=500, width=320, height=240, rng=np.random.default_rng(1))
    counts, _, _ = np.histogram2d(coords[:, 0], coords[:, 1], bins=(8, 6), range=[[0, 1]] * 2)
    assert counts.min() >= 5


@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32)))
def test_importance_is_normalised_per_frame(entropy: np.ndarray) -> None:
    importance = AttentionEntropyImportanceCalculator(1e-9)(entropy)
    assert importance.shape == entropy.shape
    assert importance.max() == 1
    assert importance.min() == (0 if entropy.max() - entropy.min() > 1e-9 else 1)


@pytest.mark.parametrize("blind", BLIND_MAPS)
def test_a_map_that_tells_nothing_becomes_uniform(blind: np.ndarray) -> None:
    importance = AttentionEntropyImportanceCalculator(1e-9)(blind)
    np.testing.assert_array_equal(importance, np.ones(blind.shape))


def test_importance_on_the_wire_is_bytes() -> None:
    assert importance_to_bytes(np.array([[0, 0.5], [1, 2]], np.float32)) == b"\x00\x80\xff\xff"


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_shares_are_kept(share: float) -> None:
    importance = np.zeros((30, 40), np.float32)
    importance[:, :10] = 1
    coords = AdaptiveUVSampler(sampling(importance_share=share), footprints=False).sample(
        importance, count=500, width=320, height=240, rng=np.random.default_rng(0)
    )
    in_the_important_quarter = float((coords[:, 0] < 0.25).mean())
    assert in_the_important_quarter == pytest.approx(share + (1 - share) * 0.25, abs=0.07)


@pytest.mark.parametrize("blind", BLIND_MAPS)
def test_a_blind_map_falls_back_to_the_uniform_pattern(blind: np.ndarray) -> None:
    settings = sampling(pattern="uniform_grid")
    rng = np.random.default_rng(0)
    coords = AdaptiveUVSampler(settings, footprints=False).sample(
        blind, count=192, width=320, height=240, rng=rng
    )
    expected = sample_pattern("uniform_grid", count=192, width=320, height=240, rng=rng)
    np.testing.assert_array_equal(coords, as_points(expected))


def sampling(
    *,
    pattern: PatternName = "jittered_grid",
    importance_share: float = 0.6,
) -> SamplingSettings:
    return SamplingSettings(
        pattern=pattern,
        default_sample_count=500,
        importance_share=importance_share,
        min_spacing_px=3,
        seed=0,
    )


@pytest.mark.parametrize(
    ("strategy", "frame_id", "psnr", "expected"),
    [
        ("fixed", 100, 1.0, False),
        ("interval", 11, 1.0, False),
        ("interval", 14, 99.0, True),
        ("quality", 100, 36.0, False),
        ("quality", 11, 34.0, True),
        ("quality", 11, None, True),
        ("quality", 11, float("nan"), True),
        ("adaptive", 11, 36.0, False),
        ("adaptive", 11, 34.0, True),
        ("adaptive", 14, 36.0, True),
    ],
)
def test_when_the_mask_is_updated(
    strategy: UpdateStrategy, frame_id: int, psnr: float | None, expected: bool
) -> None:
    scheduler = MaskUpdateScheduler(
        MaskUpdateSettings(strategy=strategy, update_interval=4, quality_threshold=35)
    )
    decided = scheduler.should_update(
        frame_id=frame_id, last_update_frame_id=10, predicted_psnr_db=psnr
    )
    assert decided is expected


@pytest.mark.parametrize("strategy", get_args(UpdateStrategy))
def test_the_first_answer_is_always_a_new_set(strategy: UpdateStrategy, settings: Settings) -> None:
    scheduler = MaskUpdateScheduler(settings.mask_update.model_copy(update={"strategy": strategy}))
    assert scheduler.should_update(frame_id=0, last_update_frame_id=None, predicted_psnr_db=99.0)
