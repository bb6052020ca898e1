"""A folder in which commands run as a person types them in a fresh clone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from paths import ROOT
from waiting import answers, wait_until

HTTP = "http://127.0.0.1:8000"
COMMAND_TIMEOUT_SECS = 900
READY_TIMEOUT_SECS = 600
STOP_TIMEOUT_SECS = 120
LINKED = ("Makefile", "constraints.txt", "requirements-dev.txt", "docs")
"""With what `make run` looks at to see that everything is installed, and what guides point to."""
OURS = ("REDIS_URL", "SGAPS_TOKEN")
"""Variables of whoever runs the tests, which would lead elsewhere."""


class Scratch:
    """Holds the environment, under the name that the guides use, and nothing that was made yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("*.*d"))
        bin_folder = Path(sys.executable).parent
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in OURS},
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "BROWSER": "true",  # the program, which shows nothing
            # Beside other tests two threads of a training would spin until both have a core.
            "SGAPS__TRAINING__CPU_THREADS": "1",
        }

    def run(self, command: str) -> str:
        """What it prints; it must end well."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(self, command: str) -> Iterator[None]:
        """In a terminal of its own, until Ctrl-C."""
        log = self.folder / "terminal.log"
        with log.open("w") as terminal:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self._environment,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: process.poll() is not None or answers(f"{HTTP}/api/ready"),
                "the system is ready",
                timeout_secs=READY_TIMEOUT_SECS,
            )
            assert process.poll() is None, log.read_text()
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(STOP_TIMEOUT_SECS)
        # make says of an interrupted target that it failed; what it ran says that it ended.
        assert process.returncode == 0 or command.startswith("make"), log.read_text()
        assert "stopped" in log.read_text().splitlines()

    def ledger(self) -> dict[str, int]:
        told: dict[str, Any] = httpx.get(f"{HTTP}/api/status").json()
        counts: dict[str, int] = told["ledger"]
        return counts
