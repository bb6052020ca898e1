"""`sgaps up` itself: it says what does not come up, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.conftest import SGAPS, start_system
from ports import free_port

QUICK = ("--set", "reconstructor.method=telea", "--set", "training.min_new_frames=100000")


def running(data_dir: Path) -> list[str]:
    """What belongs to a system: its services name its folder, its broker works in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            works_in = (folder / "cwd").readlink()
        except OSError:
            continue
        is_service = str(data_dir) in command and " -m " in command
        if is_service or works_in == data_dir / "broker":
            found.append(command)
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_nothing_is_left_of_it(number: signal.Signals, code: int, tmp_path: Path) -> None:
    _, process = start_system(tmp_path, *QUICK)
    with ending(process):
        assert len(running(tmp_path)) == 6  # five services and a broker
        process.send_signal(number)
        assert process.wait(60) == code
        deadline_secs = time.monotonic() + 15
        while left := running(tmp_path):
            assert time.monotonic() < deadline_secs, left
            time.sleep(0.1)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever the test found, its services end with it."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_service_that_never_comes_up_is_named_with_its_reason(tmp_path: Path) -> None:
    command = [str(SGAPS), "up", "--no-browser", "--port", str(free_port())]
    no_folder = tmp_path / "recordings"
    no_folder.write_text("a file")
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path), "--set", f"data.recordings_dir={no_folder}"],
        env={name: value for name, value in os.environ.items() if name != "REDIS_URL"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 1
    last_line = done.stderr.splitlines()[-1]
    assert "does not come up" in last_line
    assert f"cannot use the recordings folder {no_folder}" in last_line
    assert "Traceback" not in done.stderr
    assert running(tmp_path) == []
