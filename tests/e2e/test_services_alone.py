"""Each service installed by itself: it runs, and torch reaches only those that need it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("service", "has_torch"),
    [
        ("gateway", False),
        ("sampler", False),
        ("recorder", False),
        ("reconstructor", True),
        ("trainer", True),
    ],
)
def test_a_service_is_installed_alone(service: str, has_torch: bool, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    # Without .pyc of what is hardly used: torch alone has half a minute of them.
    install = ["install", "-q", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    packages = [str(ROOT / "shared"), str(ROOT / "services" / service)]
    subprocess.run([*pip, *install, *packages], check=True)
    environment = {**os.environ, "SGAPS_CONF_DIR": str(ROOT / "conf")}
    subprocess.run([python, "-m", service, "--help"], check=True, env=environment)
    found = subprocess.run([python, "-c", "import torch"], check=False, capture_output=True)
    assert (found.returncode == 0) is has_torch
