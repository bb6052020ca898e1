"""`sgaps up` itself: it says what does not come up, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.conftest import processes_of, start_system
from ports import free_port
from sgaps_command import SGAPS
from waiting import wait_until

QUICK = ("--set", "reconstructor.method=telea", "--set", "training.min_new_frames=100000")


def test_nothing_is_left_of_it_when_it_is_killed(tmp_path: Path) -> None:
    _, process = start_system(tmp_path, *QUICK)
    with ending(process):
        assert len(processes_of(tmp_path)) == 6  # five services and a broker
        process.kill()
        process.wait()
        wait_until(lambda: not processes_of(tmp_path), timeout_secs=15)


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
    assert processes_of(tmp_path) == []
