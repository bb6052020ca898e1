"""JavaScript in Node. Where a tool is missing, a test is skipped at home and fails in CI."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools import require_tool

MODULES = Path(__file__).parent / "modules"


def node_program() -> str:
    return require_tool("node", "nodejs")


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
