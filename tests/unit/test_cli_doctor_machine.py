"""`sgaps doctor`: what it says of this machine, its folders and its secrets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sgaps_cli.deployment_secrets import write_secrets
from sgaps_cli.doctor import machine
from sgaps_command import run_here
from unit.asked_doctor import Asked, bad_lines

pytestmark = pytest.mark.usefixtures("alone")


def test_settings_and_data_folder(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.data_dir.write_text("a file")
    code, said = asked()
    assert code == 1
    assert bad_lines(said) == [f"bad  data folder {asked.data_dir}: {asked.data_dir} is no folder"]
    assert "cure: choose another with --data-dir" in said
    monkeypatch.setenv("SGAPS__SERVER__PORT", "many")
    code, said = asked()
    assert code == 1
    assert "server.port" in bad_lines(said)[0]


def test_folders_that_are_configured_elsewhere_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `sgaps up` without --data-dir uses them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("SGAPS__DATA__RECORDINGS_DIR", str(tmp_path / "a file"))
    done = run_here("doctor")
    (line,) = bad_lines(done.stdout)
    assert line.endswith("a file is no folder")
    assert "cure: set data.recordings_dir" in done.stdout
    assert not bad_lines(run_here("doctor", "--data-dir", tmp_path / "other").stdout)


def test_a_folder_that_may_not_be_written_is_not_cured_by_space(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may be root, who may write anywhere."""
    asked.data_dir.mkdir()
    monkeypatch.setattr(os, "access", lambda path, how: (path, how) != (asked.data_dir, os.W_OK))
    (line,) = bad_lines(said := asked()[1])
    assert line.endswith(f": {asked.data_dir} may not be written by this user")
    assert "cure: choose another with --data-dir" in said


def test_a_disk_without_room_is_cured_by_space_or_another_one(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(asked.data_dir.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    (line,) = bad_lines(said := asked()[1])
    assert line.endswith("writable, 0.1 GB free")
    assert "cure: free space there (" in said
    assert "or choose another with --data-dir" in said


@pytest.mark.parametrize(("name", "arguments"), [("data", ()), ("loop", ("--data-dir", "loop"))])
def test_a_data_folder_that_is_a_link_to_itself_is_a_finding(
    name: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).symlink_to(name)
    for folder in ("recordings", "checkpoints"):
        monkeypatch.setenv(f"SGAPS__DATA__{folder.upper()}_DIR", str(tmp_path / folder))
    done = run_here("doctor", *arguments)
    assert done.returncode == 1
    (line,) = bad_lines(done.stdout)
    assert line.startswith(f"bad  data folder {name}: cannot be looked at: ")
    assert "cure: choose another with --data-dir" in done.stdout


def test_a_missing_package(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.PACKAGES, "no_such_package", "pip install it[all]")
    code, said = asked()
    assert code == 1
    assert bad_lines(said) == ["bad  package no_such_package: missing"]
    assert "cure: pip install it[all]" in said


def test_secrets_that_others_can_read(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = asked.data_dir.parent / "secrets"
    write_secrets(folder)
    monkeypatch.setenv("SGAPS_SECRETS_DIR", str(folder))
    code, _ = asked()
    assert code == 0
    folder.chmod(0o755)
    (folder / "admin.password").chmod(0o644)
    code, said = asked()
    assert code == 1
    assert f"{folder} has mode 755" in said
    assert f"chmod go= {folder / 'admin.password'}" in said


@pytest.mark.parametrize(
    "line",
    [
        "SGAPS_SECRETS_DIR={}",
        "export SGAPS_SECRETS_DIR='{}'  # on the other disk",
        'SGAPS_SECRETS_DIR = "{}"',
        "SGAPS_SECRETS_DIR=elsewhere\nSGAPS_SECRETS_DIR=$WHERE/a folder # the last counts",
    ],
)
def test_secrets_are_looked_at_where_compose_has_them(
    line: str, asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder"
    write_secrets(folder)
    monkeypatch.delenv("SGAPS_SECRETS_DIR", raising=False)
    monkeypatch.setenv("WHERE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"SGAPS_PORT=80\n{line.format(folder)}\n")
    assert f"ok   secrets {folder}: " in asked()[1]
    monkeypatch.setenv("SGAPS_SECRETS_DIR", "another")  # counts more
    assert "ok   secrets" not in asked()[1]
