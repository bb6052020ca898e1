"""Which models are in memory: those that are played, as long as they are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from reconstructor import models
from sgaps.checkpoints import POINTER_NAME, WEIGHTS_NAME
from sgaps.metrics.reconstructor import FAILED, WITHOUT_ROOM
from sgaps.model import (
    CheckpointStore,
)
from sgaps.model.checkpoint import Checkpoint
from toy_models import publish
from toy_reconstructors import frame, neural, refused, versions_of


def test_what_nobody_plays_makes_room_and_what_is_played_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        key: publish(tmp_path / "own", key, seed=seed).model_version
        for seed, key in enumerate(["default", "doom", "pong", "quake"])
    }
    reconstructor = neural(tmp_path, "reconstructor.max_models=2")
    assert reconstructor.serving() == own  # whether they are in memory or not
    turned_away = WITHOUT_ROOM._value.get()
    assert versions_of(reconstructor, "pong", "quake", "doom") == [
        own["pong"],
        own["quake"],
        own["default"],
    ]
    reconstructor.reconstruct([frame("doom"), frame("doom", seed=1)])
    assert reconstructor.serving() == own  # what is in force, not what found room here
    assert WITHOUT_ROOM._value.get() - turned_away == 3
    newer = publish(tmp_path / "own", "quake", seed=9).model_version
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "quake", "pong") == [newer, own["pong"]]
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    assert versions_of(reconstructor, "doom", "pong") == [own["doom"], own["pong"]]
    monkeypatch.setattr(models, "PLAYED_SECS", 60.0)
    assert versions_of(reconstructor, "quake") == [own["default"]]  # it had to go
    assert WITHOUT_ROOM._value.get() - turned_away == 4


def test_a_look_beside_a_first_frame_takes_no_room_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doom = publish(tmp_path / "own", "doom").model_version
    reconstructor = neural(tmp_path, "reconstructor.max_models=1")
    publish(tmp_path / "own", "pong", seed=1)
    load = CheckpointStore.load

    def beside_a_look(store: CheckpointStore, key: str, version: str) -> Checkpoint:
        if key == "doom":
            assert reconstructor.refresh() == 1
            assert reconstructor.is_at_hand("pong")
        return load(store, key, version)

    monkeypatch.setattr(CheckpointStore, "load", beside_a_look)
    assert versions_of(reconstructor, "doom") == [doom]
    assert reconstructor.is_at_hand("doom")
    assert not reconstructor.is_at_hand("pong")  # which nobody played


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of which a checkpoint is loaded from now on, in order."""
    keys: list[str] = []
    load = CheckpointStore.load

    def counted(store: CheckpointStore, key: str, version: str) -> Checkpoint:
        keys.append(key)
        return load(store, key, version)

    monkeypatch.setattr(CheckpointStore, "load", counted)
    return keys


def test_a_start_loads_nothing_but_the_general_one(tmp_path: Path, loads: list[str]) -> None:
    """A thousand keys would take minutes; a probe would have the replica killed before."""
    own = {
        key: publish(tmp_path / "own", key, seed=seed).model_version
        for seed, key in enumerate(["default", "doom", "pong"])
    }
    reconstructor = neural(tmp_path)
    assert loads == ["default"]
    assert reconstructor.serving() == own
    assert versions_of(reconstructor, "pong", "pong") == [own["pong"]] * 2
    assert loads == ["default", "pong"]
    at_hand = {key: reconstructor.is_at_hand(key) for key in ["default", "doom", "pong", "another"]}
    assert at_hand == {"default": True, "doom": False, "pong": True, "another": True}
    newer = publish(tmp_path / "own", "doom", seed=3).model_version
    assert reconstructor.refresh() == 1  # checked at once: the old one would serve on
    assert versions_of(reconstructor, "doom") == [newer]
    assert loads == ["default", "pong", "doom"]


def test_what_is_refused_is_not_loaded_again_while_its_files_stay_as_they_are(
    tmp_path: Path, loads: list[str]
) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    new = publish(tmp_path / "own", "doom", seed=1)
    os.truncate(tmp_path / "own" / "doom" / new.model_version / WEIGHTS_NAME, 1000)
    for _ in range(3):
        assert reconstructor.refresh() == 0
    assert loads == ["doom"]


def test_what_was_damaged_since_it_was_let_go_is_served_by_the_general_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    root = tmp_path / "own"
    general = publish(root, "default").model_version
    doom = publish(root, "doom", seed=1).model_version
    pong = publish(root, "pong", seed=2).model_version
    reconstructor = neural(tmp_path, "reconstructor.max_models=1")
    assert versions_of(reconstructor, "doom", "pong") == [doom, pong]
    weights = root / "doom" / doom / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:1000])
    assert versions_of(reconstructor, "doom", "pong") == [general, pong]
    assert set(reconstructor.serving()) == {"default", "pong"}
    assert reconstructor.refresh() == 0
    assert refused() == {"default": 0, "doom": 1, "pong": 0}
    assert "doom is served by the general one: " in caplog.text
    newer = publish(root, "doom", seed=3).model_version
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "doom", "pong") == [newer, pong]


def test_a_model_that_looks_back_farther_than_the_broker_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    for key in ("doom", "pong"):
        publish(tmp_path / "own", key)
    short = ("model.history_frames=1", "server.history_frames=1", "reconstructor.max_models=1")
    reconstructor = neural(tmp_path, *short)
    for key in ("doom", "pong", "doom"):
        reconstructor.reconstruct([frame(key)])
    told = [line for line in caplog.messages if "server.history_frames=2" in line]
    assert len(told) == 2
    caplog.clear()
    neural(tmp_path).reconstruct([frame("doom")])
    assert "history_frames" not in caplog.text


def test_a_deleted_checkpoint_serves_no_more_in_memory_or_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own"
    general = publish(own, "default").model_version
    versions = {key: publish(own, key, seed=1).model_version for key in ("doom", "pong")}
    shipped = publish(tmp_path / "shipped", "default", seed=2).model_version
    reconstructor = neural(tmp_path)
    assert versions_of(reconstructor, "doom") == [versions["doom"]]
    (own / "doom" / POINTER_NAME).unlink()
    (own / "pong" / POINTER_NAME).unlink()
    assert reconstructor.refresh() == 0
    assert versions_of(reconstructor, "doom", "pong") == [general, general]
    assert reconstructor.serving() == {"default": general}
    assert [m for m in caplog.messages if "no checkpoint any more" in m] == [
        f"{key} has no checkpoint any more: the general one serves it" for key in ("doom", "pong")
    ]
    quake = publish(own, "quake", seed=3).model_version
    (own / "default" / POINTER_NAME).unlink()
    assert reconstructor.refresh() == 2
    assert reconstructor.serving() == {"default": shipped, "quake": quake}
    publish(tmp_path / "shipped", "tetris", seed=4)
    (tmp_path / "shipped" / "default" / POINTER_NAME).unlink()
    assert reconstructor.refresh() == 1
    assert reconstructor.serving()["default"] == shipped  # there is nothing in its place


def test_a_folder_that_is_empty_all_of_a_sudden_was_not_emptied_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path / "shipped", "default")
    publish(tmp_path / "own", "doom", seed=1)
    reconstructor = neural(tmp_path)
    before, failed = reconstructor.serving(), FAILED._value.get()
    mounted = (tmp_path / "own").rename(tmp_path / "elsewhere")
    for there in (None, tmp_path / "own"):
        if there:
            there.mkdir()
        assert reconstructor.refresh() == 0
        assert reconstructor.serving() == before
    assert FAILED._value.get() - failed == 2
    assert f"{tmp_path / 'own'} is empty by now: mount it again" in caplog.text
    (tmp_path / "own").rmdir()
    mounted.rename(tmp_path / "own")
    (tmp_path / "own" / "doom" / POINTER_NAME).unlink()
    publish(tmp_path / "own", "pong", seed=2)
    assert reconstructor.refresh() == 1
    assert set(reconstructor.serving()) == {"default", "pong"}


def test_a_copy_of_what_serves_takes_its_place_where_that_is_deleted(tmp_path: Path) -> None:
    publish(tmp_path / "shipped", "default")
    version = publish(tmp_path / "shipped", "doom", seed=1).model_version
    shutil.copytree(tmp_path / "shipped" / "doom", tmp_path / "own" / "doom")
    publish(tmp_path / "own", "pong", seed=2)
    reconstructor = neural(tmp_path)
    assert reconstructor.refresh() == 0
    shutil.rmtree(tmp_path / "own" / "doom")
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "doom") == [version]
