"""Which checkpoints a replay offers, and which two it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgaps.checkpoints import DEFAULT_KEY, MANIFEST_NAME, UNTRAINED, WEIGHTS_NAME
from sgaps.errors import CheckpointRejected
from sgaps.model import CheckpointStore
from sgaps.settings import Settings, load_settings
from sgaps_cli.replay.errors import NotListed
from sgaps_cli.replay.models import LOADED_MODELS, Models, default_pair
from toy_models import publish


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folders = {"checkpoints_dir": tmp_path / "own", "shipped_dir": tmp_path / "shipped"}
    return load_settings([f"data.{k}={v}" for k, v in folders.items()], environment={})


def test_without_checkpoints_there_is_still_the_interpolation(settings: Settings) -> None:
    models = Models(settings)
    (choice,) = models.scan()
    assert choice.checkpoint_id == UNTRAINED
    assert default_pair([choice], "doom") == (UNTRAINED, UNTRAINED)
    loaded = models.load(UNTRAINED)
    assert not loaded.is_trained


def test_the_pair_is_what_serves_and_what_was_before(settings: Settings) -> None:
    own, shipped = settings.data.checkpoints_dir, settings.data.shipped_dir
    models = Models(settings)
    for_all = f"shipped/{DEFAULT_KEY}/{publish(shipped, DEFAULT_KEY).model_version}"
    assert default_pair(models.scan(), "doom") == (for_all, UNTRAINED)
    first = f"own/doom/{publish(own).model_version}"
    assert default_pair(models.scan(), "doom") == (first, for_all)
    second = f"own/doom/{publish(own, seed=1).model_version}"
    third = f"own/doom/{publish(own, seed=2).model_version}"
    assert default_pair(models.scan(), "doom") == (third, second)
    assert default_pair(models.scan(), "pong") == (for_all, UNTRAINED)
    CheckpointStore(own).promote("doom", first.rpartition("/")[2])
    assert default_pair(models.scan(), "doom") == (first, for_all)
    in_force = [choice.checkpoint_id for choice in models.scan() if choice.is_in_force]
    assert in_force == [first, for_all]


def test_the_tenth_version_is_newer_than_the_ninth(settings: Settings) -> None:
    own = settings.data.checkpoints_dir
    versions = [publish(own, seed=seed).model_version for seed in range(10)]
    pair = default_pair(Models(settings).scan(), "doom")
    assert pair == (f"own/doom/{versions[9]}", f"own/doom/{versions[8]}")


def test_what_cannot_be_used_is_listed_with_the_reason(settings: Settings) -> None:
    own = settings.data.checkpoints_dir
    good = publish(own).model_version
    color = publish(own, seed=1, color_channels=3).model_version
    torn = publish(own, seed=2).model_version
    (own / "doom" / torn / MANIFEST_NAME).write_text("{")
    models = Models(settings)
    problems = {choice.version: choice.problem for choice in models.scan()}
    assert problems[good] == ""
    assert "gray" in problems[color]
    assert "manifest" in problems[torn]
    for version in (color, torn):
        with pytest.raises(CheckpointRejected, match="choose another checkpoint"):
            models.load(f"own/doom/{version}")
    assert default_pair(models.scan(), "doom")[0] == UNTRAINED  # the one in force is torn


def test_torn_weights_are_refused_by_name(settings: Settings) -> None:
    own = settings.data.checkpoints_dir
    version = publish(own).model_version
    weights = own / "doom" / version / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:-9])
    models = Models(settings)
    models.scan()
    with pytest.raises(CheckpointRejected, match=f"doom/{version}.*torn.*choose another"):
        models.load(f"own/doom/{version}")


def test_only_what_was_listed_is_loaded_and_few_stay_loaded(settings: Settings) -> None:
    own = settings.data.checkpoints_dir
    versions = [publish(own, seed=seed).model_version for seed in range(LOADED_MODELS + 1)]
    models = Models(settings)
    models.scan()
    loaded = [models.load(f"own/doom/{version}") for version in versions]
    assert models.load(f"own/doom/{versions[-1]}") is loaded[-1]
    assert models.load(f"own/doom/{versions[0]}") is not loaded[0]
    for name in ("own/doom/../doom", f"own/../own/doom/{versions[0]}", "", "doom"):
        with pytest.raises(NotListed):
            models.load(name)
