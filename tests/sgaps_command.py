"""The command `sgaps`: where it is, run as a process, and run in this one."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sgaps_cli import main as cli
from waiting import PATIENCE_SECS

SGAPS = Path(sys.executable).with_name("sgaps")
Command = Callable[..., str]
"""Arguments and the wanted `status` → what it says."""


def run_process(
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_secs: float = PATIENCE_SECS,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SGAPS), *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_secs,
    )


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Without what a start takes, and with whatever a test has patched."""
    command = ["sgaps", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    status = ended.value.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def command_on(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`sgaps NAME … --root ROOT` with tables that are not folded."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, status: int = 0) -> str:
        done = run_here(name, *arguments, "--root", root)
        assert done.returncode == status, done.stderr
        return done.stdout if "--json" in arguments and not status else done.stdout + done.stderr

    return run
