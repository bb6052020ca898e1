"""Runs whose outcome is looked at, not what they learn."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sgaps.settings import Settings
from trainer import contest
from trainer.validation import HeldOut
from training.toy_recordings import toy_settings


@pytest.fixture
def ever_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is measured later is better, so a run publishes however short it is."""
    numbers = itertools.count()

    def judged(*_: object, **__: object) -> HeldOut:
        psnr_db = float(next(numbers))
        return HeldOut(psnr_db=psnr_db, score_db=psnr_db)

    monkeypatch.setattr(contest, "validate", judged)


@pytest.fixture
def soon_better(ever_better: None, tmp_path: Path) -> Settings:
    return toy_settings(tmp_path, "training.max_epochs=1")
