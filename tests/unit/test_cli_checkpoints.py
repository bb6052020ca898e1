"""`sgaps checkpoints`: what it lists, and that it never deletes what serves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sgaps.checkpoints import (
    ATLAS_NAME,
    MANIFEST_NAME,
    POINTER_NAME,
    WEIGHTS_NAME,
    CheckpointDirectory,
)
from sgaps_command import SGAPS, Command, command_on, run_process
from toy_models import publish
from unit.toy_room import atlas_of, walk


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    return command_on(tmp_path, "checkpoints", monkeypatch)


def test_all_versions_are_listed_and_the_one_in_force_is_marked(
    command: Command, tmp_path: Path
) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1, psnr_db=22.5)
    torn = publish(tmp_path, "pong", seed=2)
    (tmp_path / "pong" / torn.model_version / MANIFEST_NAME).write_text("{")
    lines = command("list", status=1).splitlines()
    (old,) = (line for line in lines if first.model_version in line)
    (new,) = (line for line in lines if second.model_version in line)
    assert "●" in new
    assert "22.50 dB" in new
    assert "●" not in old
    assert any("unreadable" in line for line in lines)


@pytest.mark.parametrize("damage", ["empty", "link"])
def test_a_key_that_cannot_be_read_hides_no_other_from_the_list(
    damage: str, command: Command, tmp_path: Path
) -> None:
    well = publish(tmp_path, "pong")
    assert well.model_version in command("list")
    if damage == "link":
        (tmp_path / "doom").symlink_to(tmp_path / "pong")
    else:
        publish(tmp_path)
        (tmp_path / "doom" / POINTER_NAME).write_bytes(b"")
    lines = command("list", status=1).splitlines()
    (shown,) = (line for line in lines if well.model_version in line)
    assert "●" in shown
    (refused,) = (line for line in lines if line.startswith("│ doom"))
    why = {"empty": "its pointer names no version", "link": "is a link"}
    assert "unreadable: " in refused
    assert why[damage] in refused


def test_a_manifest_is_shown_and_two_are_compared(command: Command, tmp_path: Path) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    assert json.loads(command("show", "doom")) == second.model_dump(mode="json")
    shown = json.loads(command("show", "doom", first.model_version))
    assert shown == first.model_dump(mode="json")
    different = command("compare", "doom", first.model_version, second.model_version)
    assert "training.seed" in different
    assert "model.embed_dim" not in different


def retell(root: Path, version: str, group: str, **changes: object) -> None:
    path = root / "doom" / version / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest[group] |= changes
    path.write_text(json.dumps(manifest))


def test_lists_are_compared_by_what_is_in_them(command: Command, tmp_path: Path) -> None:
    """Of equal length they were taken for equal."""
    one, other = (publish(tmp_path, seed=seed).model_version for seed in range(2))
    retell(tmp_path, other, "model", coarse_channels=[12, 16])
    for version, sessions in ((one, ["a", "b", "c"]), (other, ["c", "d", "e"])):
        retell(tmp_path, version, "data", train_sessions=sessions, val_sessions=["v"])
    rows = command("compare", "doom", one, other).splitlines()
    (channels,) = (row for row in rows if "model.coarse_channels" in row)
    assert "[6, 8]" in channels
    assert "[12, 16]" in channels
    (sessions_row,) = (row for row in rows if "data.train_sessions" in row)
    assert sessions_row.count("3, of which 2 are not in the other") == 2
    assert not any("data.val_sessions" in row for row in rows)


def test_promotion_and_its_way_back(command: Command, tmp_path: Path) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    directory = CheckpointDirectory(tmp_path)
    assert first.model_version in command("rollback", "doom")
    assert directory.current_version("doom") == first.model_version
    told = command("rollback", "doom", status=1)
    assert "nothing before" in told
    assert f"delete {tmp_path / 'doom' / POINTER_NAME}" in told
    told = command("promote", "doom", second.model_version)
    assert f"to go back: sgaps checkpoints promote doom {first.model_version}" in told
    assert "to go back" not in command("promote", "doom", second.model_version)
    assert directory.current_version("doom") == second.model_version
    assert "there is no" in command("promote", "doom", "v0009-00000000", status=1)
    assert directory.current_version("doom") == second.model_version


@pytest.mark.parametrize(
    ("key", "shipped", "serves"),
    [
        ("doom", [], "the general checkpoint"),
        ("doom", ["default"], "the general checkpoint"),
        ("doom", ["doom", "default"], "the shipped v0001-"),
        ("default", ["default"], "the shipped v0001-"),
        ("default", ["doom"], "from the next start on an untrained model"),
    ],
)
def test_where_nothing_is_before_it_is_told_what_would_serve_then(
    key: str, shipped: list[str], serves: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a reconstructor chooses it: one's own, else the shipped one, of the key and of all."""
    own = tmp_path / "own"
    publish(own, key)
    for name in shipped:
        publish(tmp_path / "shipped", name)
    monkeypatch.setenv("SGAPS__DATA__SHIPPED_DIR", str(tmp_path / "shipped"))
    told = command_on(own, "checkpoints", monkeypatch)("rollback", key, status=1)
    assert f"{own / key / 'current'}, and {serves}" in told
    assert told.endswith(" serves\n")


def test_the_shipped_ones_are_not_behind_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "default")
    monkeypatch.setenv("SGAPS__DATA__SHIPPED_DIR", str(tmp_path))
    told = command_on(tmp_path, "checkpoints", monkeypatch)("rollback", "default", status=1)
    assert told.endswith("and from the next start on an untrained model serves\n")


def test_a_rollback_goes_to_what_was_to_be_replaced(command: Command, tmp_path: Path) -> None:
    first = publish(tmp_path)
    rejected = publish(tmp_path, seed=1, parent=first.model_version)
    command("rollback", "doom")
    third = publish(tmp_path, seed=2, parent=first.model_version)
    told = command("rollback", "doom")
    assert f"served by {first.model_version}, which {third.model_version} was" in told
    assert CheckpointDirectory(tmp_path).current_version("doom") == first.model_version
    assert rejected.model_version not in told


@pytest.mark.parametrize("lost", ["parent", "manifest"])
def test_where_it_is_lost_what_was_replaced_a_rollback_goes_to_the_next_lower_number(
    lost: str, command: Command, tmp_path: Path
) -> None:
    first = publish(tmp_path)
    second = publish(tmp_path, seed=1, parent=first.model_version)
    third = publish(tmp_path, seed=2, parent=first.model_version)
    if lost == "parent":
        shutil.rmtree(tmp_path / "doom" / first.model_version)
    else:
        (tmp_path / "doom" / third.model_version / MANIFEST_NAME).write_text("{")
    told = command("rollback", "doom")
    assert f"served by {second.model_version}, the number before" in told
    assert "not known" in told


@pytest.mark.parametrize("name", [WEIGHTS_NAME, ATLAS_NAME])
@pytest.mark.parametrize("damage", ["shorter", "longer", "other", "gone"])
def test_a_version_whose_files_are_torn_is_not_put_in_force(
    name: str, damage: str, command: Command, tmp_path: Path
) -> None:
    first = publish(tmp_path, atlas=atlas_of(walk(4)))
    second = publish(tmp_path, seed=1, parent=first.model_version)
    file = tmp_path / "doom" / first.model_version / name
    whole = file.read_bytes()
    damaged = {"shorter": whole[:-1], "longer": whole + b"x", "other": b"x" + whole[1:]}
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(damaged[damage])
    assert name in command("promote", "doom", first.model_version, status=1)
    assert name in command("rollback", "doom", status=1)
    assert CheckpointDirectory(tmp_path).current_version("doom") == second.model_version
    file.write_bytes(whole)
    command("promote", "doom", first.model_version)
    assert CheckpointDirectory(tmp_path).current_version("doom") == first.model_version


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_what_cannot_be_read_now_is_not_given_up(
    number: int, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's, perhaps; the tests may be root, who is refused nothing."""
    first, opened = publish(tmp_path), os.open

    def refusing(path: str | Path, *arguments: int, **further: int) -> int:
        if path == WEIGHTS_NAME:
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **further)

    monkeypatch.setattr(os, "open", refusing)
    told = command("promote", "doom", first.model_version, status=1)
    assert os.strerror(number) in told
    assert "another version" not in told


def test_pruning_keeps_what_serves(command: Command, tmp_path: Path) -> None:
    first, second, third = (publish(tmp_path, seed=seed) for seed in range(3))
    directory = CheckpointDirectory(tmp_path)
    directory.promote("doom", first.model_version)
    told = command("prune", "doom", "--keep", "1")
    assert directory.versions("doom") == [first.model_version, third.model_version]
    assert second.model_version in told


def test_what_is_not_there_is_told_with_its_cure(command: Command) -> None:
    assert "sgaps train" in command("list", status=1)
    assert "keys: none" in command("show", "doom", status=1)


def test_versions_are_sorted_by_their_number(tmp_path: Path) -> None:
    publish(tmp_path)
    folder = tmp_path / "doom"
    (only,) = folder.glob("v*")
    only.rename(folder / "v9999-00000000")
    assert publish(tmp_path, seed=1).model_version.startswith("v10000-")
    assert [v[:6] for v in CheckpointDirectory(tmp_path).versions("doom")] == ["v9999-", "v10000"]


def test_what_is_read_by_a_program_is_broken_up_nowhere(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 columns are what a pipe is taken for."""
    manifest = publish(tmp_path, key := "a-key-of-forty-letters-and-more-than-that")
    monkeypatch.setenv("COLUMNS", "80")
    listed = command("list")
    assert any(key in line and manifest.model_version in line for line in listed.splitlines())


def test_a_folder_of_the_same_name_takes_no_modules_place(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").touch()
    done = run_process("train", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_versions_of_which_none_serves_are_listed(command: Command, tmp_path: Path) -> None:
    """As after the pointer was deleted, which `rollback` may advise."""
    version = publish(tmp_path, "pong").model_version
    (tmp_path / "pong" / POINTER_NAME).unlink()
    assert version in command("list")
    assert f"no version of pong serves; promote one: {version}" in command("show", "pong", status=1)
    command("promote", "pong", version)
    assert "●" in command("list")


def test_where_the_shipped_ones_are_is_said(command: Command) -> None:
    assert "the shipped ones are in" in command("list", status=1)


def test_a_full_disk_under_what_is_printed_is_told_in_a_line(tmp_path: Path) -> None:
    publish(tmp_path, "pong")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(SGAPS), "checkpoints", "list", "--root", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "sgaps: No space left on device\n")
