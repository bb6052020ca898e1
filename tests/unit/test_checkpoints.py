"""Checkpoints: what is published can be loaded; what is torn, hostile or worse cannot."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sgaps.checkpoints import MANIFEST_NAME, WEIGHTS_NAME
from sgaps.errors import CheckpointNotFound, CheckpointRejected, CheckpointUnreadable
from sgaps.manifest import DataCard, Metrics
from sgaps.model import CheckpointStore, build_model, load_serving
from sgaps.settings import DataSettings, ModelSettings
from toy_models import publish, small
from unit.toy_room import atlas_of, walk


def test_what_is_published_is_loaded_again(tmp_path: Path) -> None:
    manifest = publish(tmp_path)
    model, loaded, _ = CheckpointStore(tmp_path).load_current("doom")
    torch.manual_seed(0)
    expected = build_model(small()).state_dict()
    assert loaded == manifest
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])


def test_an_atlas_comes_and_goes_with_its_checkpoint(tmp_path: Path) -> None:
    atlas = atlas_of(walk(4))
    manifest = publish(tmp_path, atlas=atlas)
    again = CheckpointStore(tmp_path).load_current("doom").atlas
    assert manifest.atlas is not None
    assert manifest.atlas.pictures == 4
    assert again is not None
    assert again.poses == atlas.poses
    publish(tmp_path, seed=1)
    assert CheckpointStore(tmp_path).load_current("doom").atlas is None


def test_the_newest_is_in_force_until_another_is_promoted(tmp_path: Path) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    store = CheckpointStore(tmp_path)
    assert store.versions("doom") == [first.model_version, second.model_version]
    assert store.current_version("doom") == second.model_version
    store.promote("doom", first.model_version)
    assert store.current("doom") == first


def test_old_versions_are_deleted_but_not_what_serves_nor_what_it_came_from(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    versions = [publish(tmp_path, seed=seed).model_version for seed in range(5)]
    serving = store.manifest("doom", versions[2]).model_copy(update={"parent": versions[0]})
    (tmp_path / "doom" / versions[2] / MANIFEST_NAME).write_text(serving.model_dump_json())
    store.promote("doom", versions[2])
    half_deleted, abandoned, being_written = (
        tmp_path / "doom" / name
        for name in (f".{versions[1]}.deleted", ".v0099-00000000.7", ".v0006-00000000.7")
    )
    for folder in (half_deleted, abandoned, being_written):
        folder.mkdir()
        (folder / WEIGHTS_NAME).touch()
    old_file, new_file = (
        tmp_path / "doom" / f".unfinished.safetensors.{digit * 32}" for digit in "ab"
    )
    for file in (old_file, new_file):
        file.touch()
    os.utime(abandoned, (0, 0))
    os.utime(old_file, (0, 0))
    assert store.prune("doom", 1) == [versions[1], versions[3]]
    shutil.rmtree(being_written)
    new_file.unlink()
    left = {path.name for path in (tmp_path / "doom").iterdir()}
    assert left == {versions[0], versions[2], versions[4], "current"}
    assert store.prune("doom", 1) == []


def test_a_version_is_deleted_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    old, *_ = [publish(tmp_path, seed=seed) for seed in range(2)]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / MANIFEST_NAME).touch()
    (tmp_path / "doom" / "v0000-0").symlink_to(outside)

    def killed(_: Path) -> None:
        raise PermissionError("not yours")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(CheckpointUnreadable, match="not yours"):
            store.prune("doom", 1)
    assert old.model_version not in store.versions("doom")
    hidden = tmp_path / "doom" / f".{old.model_version}.deleted"
    assert {path.name for path in hidden.iterdir()} == {MANIFEST_NAME, WEIGHTS_NAME}
    assert store.prune("doom", 1) == []
    assert not hidden.exists()
    assert list(outside.iterdir()) == [outside / MANIFEST_NAME]  # a link is not followed


def test_what_is_being_deleted_is_not_put_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    old, new = publish(tmp_path), publish(tmp_path, seed=1)
    with ThreadPoolExecutor(1) as other:
        promoted: list[Future[None]] = []
        delete = shutil.rmtree

        def interrupted(path: Path) -> None:
            promoted.append(other.submit(store.promote, "doom", old.model_version))
            with pytest.raises(TimeoutError):
                promoted[0].result(timeout=0.1)  # it waits until nothing is deleted any more
            delete(path)

        monkeypatch.setattr(shutil, "rmtree", interrupted)
        assert store.prune("doom", 1) == [old.model_version]
        with pytest.raises(CheckpointNotFound):
            promoted[0].result(timeout=10)
    assert store.current("doom") == new


def test_where_nobody_knows_what_serves_nothing_is_deleted(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    old, new = publish(tmp_path), publish(tmp_path, seed=1)
    (tmp_path / "doom" / new.model_version / MANIFEST_NAME).write_text("{")
    with pytest.raises(CheckpointRejected, match="bad manifest"):
        store.prune("doom", 1)
    (tmp_path / "doom" / "current").unlink()
    with pytest.raises(CheckpointNotFound, match="in force"):
        store.prune("doom", 1)
    assert store.versions("doom") == [old.model_version, new.model_version]


def test_there_may_be_none(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    assert store.current("doom") is None
    assert store.all_keys() == []
    with pytest.raises(CheckpointNotFound):
        store.load_current("doom")
    publish(tmp_path)
    with pytest.raises(CheckpointNotFound):
        store.promote("doom", "v0009-none")


def test_what_cannot_be_looked_at_is_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so this folder is only said to be another user's."""
    publish(tmp_path)
    (tmp_path / "pong").mkdir()
    (tmp_path / "a file").touch()
    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path.parent == tmp_path / "theirs":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(Path, "stat", refused)
    assert CheckpointStore(tmp_path).all_keys() == ["doom", "theirs"]
    with pytest.raises(CheckpointUnreadable, match="a file cannot be listed"):
        CheckpointStore(tmp_path / "a file").all_keys()


def test_a_key_is_served_by_its_own_then_by_the_default(tmp_path: Path) -> None:
    data = DataSettings(
        recordings_dir=tmp_path,
        checkpoints_dir=tmp_path / "own",
        shipped_dir=tmp_path / "shipped",
        runs_dir=tmp_path / "runs",
        train=(),
        val=(),
        test=(),
    )
    with pytest.raises(CheckpointNotFound):
        load_serving(data, "doom")
    shipped = publish(data.shipped_dir, "default")
    assert load_serving(data, "doom")[1] == shipped
    own = publish(data.checkpoints_dir, "doom", seed=1)
    assert load_serving(data, "doom")[1] == own
    assert load_serving(data, "pong")[1] == shipped


def tear(folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def lose_the_weights(folder: Path) -> None:
    (folder / WEIGHTS_NAME).unlink()


def tear_the_manifest(folder: Path) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(path.read_text()[:40])


def link_out(folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    outside = folder.parents[2] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def swap_with_consistent_hash(folder: Path, weights: bytes) -> None:
    (folder / WEIGHTS_NAME).write_bytes(weights)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))


def poison_with_nan(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    next(iter(tensors.values()))[:1] = torch.nan
    swap_with_consistent_hash(folder, safetensors.torch.save(tensors))


def change_a_shape(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    tensors["log_error.weight"] = torch.zeros(1, 3)
    swap_with_consistent_hash(folder, safetensors.torch.save(tensors))


def change_the_type(folder: Path, dtype: torch.dtype) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    tensors["log_error.bias"] = tensors["log_error.bias"].to(dtype)
    swap_with_consistent_hash(folder, safetensors.torch.save(tensors))


def overflow_float32(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    tensors["log_error.bias"] = torch.tensor([1e300], dtype=torch.float64)
    swap_with_consistent_hash(folder, safetensors.torch.save(tensors))


def use_integers(folder: Path) -> None:
    change_the_type(folder, torch.int64)


def use_tiny_floats(folder: Path) -> None:
    change_the_type(folder, torch.float8_e4m3fn)


def claim(folder: Path, **numbers: int) -> None:
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["model"].update(numbers)
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))


def claim_a_terabyte(folder: Path) -> None:
    claim(folder, embed_dim=8192, encoder_layers=64, ffn_dim=8192)


def claim_a_million_layers(folder: Path) -> None:
    claim(folder, encoder_layers=1_000_000)


def make_it_a_folder(folder: Path) -> None:
    (folder / WEIGHTS_NAME).unlink()
    (folder / WEIGHTS_NAME).mkdir()


def pickle_it(folder: Path) -> None:
    swap_with_consistent_hash(folder, pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    "damage",
    [
        tear,
        flip_a_bit,
        lose_the_weights,
        tear_the_manifest,
        link_out,
        poison_with_nan,
        change_a_shape,
        overflow_float32,
        use_integers,
        use_tiny_floats,
        claim_a_terabyte,
        claim_a_million_layers,
        make_it_a_folder,
        pickle_it,
    ],
)
def test_a_damaged_or_hostile_checkpoint_is_refused(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    manifest = publish(tmp_path)
    damage(tmp_path / "doom" / manifest.model_version)
    with pytest.raises((CheckpointRejected, CheckpointNotFound)):
        CheckpointStore(tmp_path).load("doom", manifest.model_version)


def test_a_worse_one_is_refused(tmp_path: Path) -> None:
    manifest = publish(tmp_path, psnr_db=19.0, champion_db=20.0)
    with pytest.raises(CheckpointRejected, match="worse"):
        CheckpointStore(tmp_path).load("doom", manifest.model_version)


@pytest.mark.parametrize("name", ["../doom", "", "a/b", "a.b", "/etc", "a\n"])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    publish(tmp_path)
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointRejected):
        store.current(name)
    with pytest.raises(CheckpointRejected):
        store.load("doom", name)


@pytest.mark.parametrize("pointer", [b"../../x", b"\xff", b"", b"v1\nv2"])
def test_a_pointer_that_names_no_version_is_refused(tmp_path: Path, pointer: bytes) -> None:
    publish(tmp_path)
    (tmp_path / "doom" / "current").write_bytes(pointer)
    with pytest.raises(CheckpointRejected):
        CheckpointStore(tmp_path).current("doom")


def test_a_manifest_of_another_model_shape_builds_that_shape(tmp_path: Path) -> None:
    wide: ModelSettings = small(embed_dim=48)
    CheckpointStore(tmp_path).publish(
        "doom",
        build_model(wide),
        settings=wide,
        metrics=Metrics(val_psnr_db=1, champion_psnr_db=0),
        parent=None,
        data=DataCard(frames=0, train_sessions=(), val_sessions=()),
        training={},
    )
    model, *_ = CheckpointStore(tmp_path).load_current("doom")
    assert model.film.in_features == 48
