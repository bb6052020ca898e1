"""An atlas built from recordings of the toy room."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sgaps.atlas.atlas import Atlas
from sgaps.recording import find_segments
from sgaps.settings import Settings
from trainer import atlas as building
from trainer.atlas import build_atlas
from training.toy_recordings import toy_settings
from unit.toy_room import KEY

RUNNING = threading.Event()
POSES = "{values: [0, 1, 2, 3, 4], nearest: 40}"


def settings_of(tmp_path: Path, *overrides: str) -> Settings:
    return toy_settings(
        tmp_path,
        "training.max_epochs=1",
        "sampling.default_sample_count=80",
        f"atlas.layouts={{doom-*: {POSES}}}",
        *overrides,
    )


def built(
    settings: Settings,
    *,
    key: str = KEY,
    known: Atlas | None = None,
    stop: threading.Event = RUNNING,
) -> Atlas | None:
    segments = find_segments(settings.data.recordings_dir, KEY)
    return build_atlas(key, segments, settings, stop=stop, known=known)


def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "calibrated", lambda atlas, steps, stop: atlas)
