"""`sgaps secrets`: what compose.yaml mounts is there, for the folder's owner alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sgaps_cli.acl import AclError
from sgaps_cli.deployment import write_secrets

COMPOSE_FILE = Path(__file__).parents[2] / "compose.yaml"


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


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    token = (tmp_path / "auth_token").read_text()
    with pytest.raises(AclError):
        write_secrets(tmp_path)
    assert (tmp_path / "auth_token").read_text() == token
