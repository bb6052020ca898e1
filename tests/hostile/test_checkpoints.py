"""Hostile checkpoints: every one is refused, and the model that serves goes on serving."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import Mock

import cv2
import pytest

from hostile.checkpoints import Damage, hostile_checkpoints, two_frames
from reconstructor.neural import NeuralReconstructor
from sgaps.atlas.pictures import decoded
from sgaps.checkpoints import MANIFEST_NAME, POINTER_NAME
from sgaps.errors import CheckpointError, CheckpointRejected
from sgaps.manifest import Manifest
from sgaps.model import CheckpointStore
from sgaps.settings import Settings
from toy_models import publish
from toy_reconstructors import frame, settings_of
from unit.toy_room import HEIGHT, WIDTH, atlas_of, walk

KINDS = dict(hostile_checkpoints())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one key: the first in force under `old`, the second under `new`."""
    root = tmp_path_factory.mktemp("good")
    publish(root / "old", "doom", atlas=atlas_of(walk(4)))
    shutil.copytree(root / "old", root / "new")
    publish(root / "new", "doom", seed=1, atlas=atlas_of(walk(4, seed=1)))
    return root


@pytest.fixture(scope="module")
def settings_of_all(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(tmp_path_factory.mktemp("unused"))


@pytest.mark.parametrize("damage", KINDS.values(), ids=KINDS.keys())
def test_it_is_refused_and_the_old_model_serves_on(
    tmp_path: Path, good: Path, settings_of_all: Settings, damage: Damage
) -> None:
    root = tmp_path / "own"
    shutil.copytree(good / "old", root)
    reconstructor = NeuralReconstructor([CheckpointStore(root)], settings_of_all)
    reconstructor.reconstruct([frame()])  # what is played is in memory
    serving = reconstructor.serving()
    shutil.copytree(good / "new", root, dirs_exist_ok=True)
    damage(root / "doom" / (root / "doom" / POINTER_NAME).read_text())
    with pytest.raises(CheckpointError) as refusal:
        CheckpointStore(root).load_current("doom")
    assert len(str(refusal.value)) < 2000
    assert [reconstructor.refresh(), reconstructor.refresh()] == [0, 0]
    assert reconstructor.serving() == serving
    assert reconstructor.reconstruct([frame()])[0].model_version == serving["doom"]


@pytest.mark.parametrize("kind", [0xC1, 0xC2])
def test_a_picture_is_not_decoded_to_find_out_how_large_it_is(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Mock()
    monkeypatch.setattr(cv2, "imdecode", decoder)
    with pytest.raises(CheckpointRejected, match="is no JPEG of"):
        decoded(two_frames(kind, 20000), WIDTH, HEIGHT)
    decoder.assert_not_called()


def test_no_kind_hides_another() -> None:
    print(f"{len(KINDS)} hostile checkpoints")
    assert len(KINDS) == len(list(hostile_checkpoints())) > 100


def test_without_damage_the_new_one_is_swapped_in(
    tmp_path: Path, good: Path, settings_of_all: Settings
) -> None:
    root = tmp_path / "own"
    shutil.copytree(good / "old", root)
    reconstructor = NeuralReconstructor([CheckpointStore(root)], settings_of_all)
    shutil.copytree(good / "new", root, dirs_exist_ok=True)
    assert reconstructor.refresh() == 1


def test_a_flipped_bit_of_a_manifest_changes_no_weight(tmp_path: Path, good: Path) -> None:
    """Whoever may write a manifest may say what it likes, but not of other weights or names."""
    root = tmp_path / "own"
    shutil.copytree(good / "old", root)
    store = CheckpointStore(root)
    _, manifest, _ = store.load_current("doom")
    path = root / "doom" / manifest.model_version / MANIFEST_NAME
    whole = path.read_bytes()
    taken = []
    for bit in range(0, 8 * len(whole), 7):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            taken.append(store.load_current("doom")[1])
        except CheckpointError:
            continue
    assert {_bound(other) for other in taken} == {_bound(manifest)}


def _bound(manifest: Manifest) -> tuple[object, ...]:
    """What names and hash hold fast."""
    return manifest.checkpoint_key, manifest.model_version, manifest.weights_sha256


def test_nothing_is_published_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "doom").symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="link"):
        publish(tmp_path / "own", "doom")
    assert list((tmp_path / "outside").iterdir()) == []
