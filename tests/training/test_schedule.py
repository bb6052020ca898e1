"""How fast a run learns and from how many samples, from its beginning to its end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from sgaps.settings import load_settings
from trainer.schedule import Schedule, sample_counts
from training.toy_recordings import toy_settings


def test_the_schedule_warms_up_falls_and_ends() -> None:
    schedule = Schedule(warmup_part=0.1, total_steps=100, max_secs=50)
    factors = [schedule.factor(step, 0.0) for step in range(100)]
    assert factors[0] < factors[5] < max(factors)
    assert factors[99] < 0.01
    assert schedule.factor(20, 49.0) < 0.01
    assert schedule.done(100, 0.0)
    assert schedule.done(1, 50.0)
    assert not schedule.done(99, 49.0)


def test_a_run_that_ends_by_time_warms_up_in_its_share_of_the_time() -> None:
    schedule = Schedule(warmup_part=0.1, total_steps=10_000, max_secs=600)
    by_time = [schedule.factor(round(secs), secs) for secs in (0, 30, 60, 300, 599)]
    assert by_time == pytest.approx([0.001, 0.5, 1.0, 0.587, 0.0], abs=2e-3)
    assert by_time[0] > 0
    assert Schedule(warmup_part=0, total_steps=100, max_secs=600).factor(0, 0.0) == 1


@pytest.mark.parametrize("warmup_part", [0.1, 1 / 3, 0.5])
def test_the_learning_rate_falls_off_no_cliff(warmup_part: float) -> None:
    schedule = Schedule(warmup_part=warmup_part, total_steps=1000, max_secs=1e9)
    factors = [schedule.factor(step, 0.0) for step in range(1001)]
    falls = [before - after for before, after in pairwise(factors)]
    assert max(factors) == pytest.approx(1, abs=2e-3)
    assert max(falls) < 4e-3  # half a cosine over the half of the run falls by 3.14e-3 at most


def test_the_curriculum_goes_through_its_phases(tmp_path: Path) -> None:
    settings = load_settings(environment={})
    counts = [sample_counts(settings, part) for part in (0, 0.29, 0.31, 0.69, 0.71, 1)]
    assert counts == [(1000,), (1000,), (500,), (500,), (250,), (250,)]
    assert sample_counts(toy_settings(tmp_path), 0.5) == (60,)
    general = load_settings(["training=general"], environment={})
    assert set(sample_counts(general, 1)) == {250, 500, 1000}
