"""JavaScript in Node. Where a tool is missing, a test is skipped at home and fails in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = Path(__file__).parent / "modules"


def require(found: object, what: str) -> None:
    """Skip, or fail in CI, where something to test with is missing."""
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is missing")


def node_program() -> str:
    program = shutil.which("node")
    require(program, "node (Debian: nodejs)")
    assert program is not None
    return program


def node(*arguments: str | Path, given: str = "") -> str:
    """What a script prints that must succeed."""
    done = subprocess.run(
        [node_program(), *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
