"""`sgaps up` tells at once what it cannot start with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sgaps_cli import main as cli


@pytest.mark.parametrize(
    ("override", "cure"),
    [
        ("server.host=0.0.0.0", "server.auth_token_file"),
        ("server.auth_token_file=/no/such/file", "/no/such/file"),
        ("server.prt=1", "server.prt"),
        ("server={tls_certificate:/c,tls_key:/k}", "TLS"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_starts(
    override: str,
    cure: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    command = ["sgaps", "up", "--no-browser", "--data-dir", str(data), "--set", override]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert cure in capsys.readouterr().err
    assert not data.exists()
