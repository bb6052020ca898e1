"""`sgaps secrets`: what compose.yaml mounts is there, for the folder's owner alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from paths import ROOT
from sgaps_cli.acl import AclError
from sgaps_cli.deployment_secrets import write_secrets

COMPOSE_FILE = ROOT / "compose.yaml"


def test_every_file_that_compose_mounts_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    written = {path.name: path for path in write_secrets(folder)}
    mounted = re.findall(r"SGAPS_SECRETS_DIR:-\./secrets}/([\w.]+)", COMPOSE_FILE.read_text())
    assert written.keys() == {*mounted, "admin.password"}
    assert folder.stat().st_mode & 0o777 == 0o700
    # Containers run as other users, and a file is mounted with the mode that it has.
    assert {written[name].stat().st_mode & 0o777 for name in mounted} == {0o644}
    assert written["admin.password"].stat().st_mode & 0o777 == 0o600
    exporter = json.loads(written["redis_exporter.json"].read_text())
    assert list(exporter.values()) == [written["monitor.password"].read_text().strip()]


def test_what_is_there_stays_and_what_follows_from_it_is_written_again(tmp_path: Path) -> None:
    """As after an update, which may have given a user another right."""
    write_secrets(tmp_path)
    before = contents(tmp_path)
    for name in ("users.acl", "grafana.password", "redis_exporter.json"):
        (tmp_path / name).unlink()
    (tmp_path / "users.acl").write_text("user default off\n")
    written = {path.name for path in write_secrets(tmp_path)}
    assert written == {"users.acl", "grafana.password", "redis_exporter.json"}
    after = contents(tmp_path)
    assert after.pop("grafana.password") != before.pop("grafana.password")
    assert after == before


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_run_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    token = tmp_path / "auth_token"
    token.write_text("what-players-have\n")
    (tmp_path / "gateway.password").write_text("what-it-has\n")
    write_secrets(tmp_path)
    assert token.read_text() == "what-players-have\n"
    digest = hashlib.sha256(b"what-it-has").hexdigest()
    assert f"user gateway on #{digest} " in contents(tmp_path)["users.acl"]


def test_what_a_run_that_was_cut_off_left_closed_is_opened(tmp_path: Path) -> None:
    """Containers run as other users, and none of them would start."""
    for path in write_secrets(tmp_path):
        path.chmod(0o600)
    write_secrets(tmp_path)
    closed = {path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o777 == 0o600}
    assert closed == {"admin.password"}


@pytest.mark.parametrize("name", ["auth_token", "grafana.password", "sampler.password"])
def test_a_secret_is_there_whole_or_not_at_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_: int) -> None:
        raise KeyboardInterrupt

    write_secrets(tmp_path)
    (tmp_path / name).unlink()
    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_secrets(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["users.acl", "redis_exporter.json"])
def test_what_is_written_again_is_the_old_one_where_the_disk_is_full(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is started with an empty users.acl is open to all."""

    def full(descriptor: int) -> None:
        unfinished = tmp_path.glob(f".{name}.*")
        if os.fstat(descriptor).st_ino in {path.stat().st_ino for path in unfinished}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_secrets(tmp_path)
    (tmp_path / name).write_text("of the version before\n")
    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AclError, match="No space left on device"):
        write_secrets(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["auth_token", "grafana.password", "sampler.password"])
def test_an_empty_secret_is_written_again(name: str, tmp_path: Path) -> None:
    """As runs that were cut off have left it: Grafana would start with it."""
    (tmp_path / name).touch()
    assert tmp_path / name in write_secrets(tmp_path)
    assert contents(tmp_path)[name].strip()


def test_what_cannot_be_written_names_a_cure(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.write_text("")
    with pytest.raises(AclError, match="--out"):
        write_secrets(folder)


def test_a_folder_of_other_things_stays_as_it_is(tmp_path: Path) -> None:
    """Nobody but its owner may enter a folder of secrets: of /tmp that would be the end."""
    (tmp_path / "letter.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(AclError, match=r"has letter\.txt in it: name a new folder with --out"):
        write_secrets(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_password_that_is_no_text_is_told(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    (tmp_path / "recorder.password").write_bytes(b"\xff\xfe")
    with pytest.raises(AclError, match="is no text: delete that file"):
        write_secrets(tmp_path)
