"""A Docker engine: the one that answers, or Debian's, started here and ended with the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import require
from waiting import wait_until

PACKAGES = ("docker.io", "debootstrap", "ca-certificates")
STOP_TIMEOUT_SECS = 60


@contextmanager
def running_engine(logs: Path) -> Iterator[None]:
    """With an engine that answers `docker`. Skips where none can be had, and fails in CI."""
    if answers():
        yield
        return
    require(os.geteuid() == 0, "a Docker engine (none answers, and only root can start one)")
    if not shutil.which("dockerd"):
        require(os.environ.get("CI"), "a Docker engine (none answers; with CI=1 one is installed)")
        _install()
    with (logs / "dockerd.log").open("wb") as log:
        engine = subprocess.Popen(["dockerd"], stdout=log, stderr=log)
    try:
        wait_until(lambda: engine.poll() is not None or answers(), "dockerd answers, see its log")
        assert engine.poll() is None, "dockerd ended, see its log"
        yield
    finally:
        engine.terminate()
        engine.wait(STOP_TIMEOUT_SECS)


def answers() -> bool:
    if not shutil.which("docker"):
        return False
    asked = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    return asked.returncode == 0


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES],
    ):
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
