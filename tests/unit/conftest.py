"""`sgaps doctor` where nothing is found but what a test has made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ports import free_port
from unit.asked_doctor import Asked


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker of this test run, and no system that happens to run on this machine."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("SGAPS__SERVER__PORT", str(free_port()))


@pytest.fixture
def asked(alone: None, tmp_path: Path) -> Asked:
    return Asked(tmp_path / "data")
