"""`sgaps up` itself: it says what does not come up, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.conftest import processes_of, start_system
from ports import free_port
from sgaps_command import SGAPS
from waiting import answers, wait_until

QUICK = ("--set", "reconstructor.method=telea", "--set", "training.min_new_frames=100000")


def test_its_services_end_in_order_when_it_is_killed(tmp_path: Path) -> None:
    _, process = start_system(tmp_path, *QUICK)
    with ending(process):
        assert len(processes_of(tmp_path)) == 6  # five services and a broker
        process.kill()
        process.wait()
        wait_until(lambda: not processes_of(tmp_path), timeout_secs=15)
    logs = [log.read_text() for log in (tmp_path / "logs").glob("*-1.log")]
    assert len(logs) == 5
    assert all(log.splitlines()[-1].endswith("stopped") for log in logs)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever the test found, its services end with it."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_broker_that_dies_is_started_again_and_looked_into(tmp_path: Path) -> None:
    """By `sgaps doctor` and `sgaps dead`, which find it by the data folder alone."""
    system, process = start_system(tmp_path, *QUICK)
    with ending(process):
        before = pid_of_broker(tmp_path)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pid_of_broker(tmp_path) not in {before, None}, timeout_secs=60)
        wait_until(lambda: answers(f"{system.http_url}/api/ready"), timeout_secs=60)
        # Time enough for services that have not noticed yet.
        assert system.play("atari/pong", "--frames", "60")["answered"] > 0
        for asking in ("dead", "doctor"):
            done = subprocess.run(
                [str(SGAPS), asking, "--data-dir", str(tmp_path), "--json"],
                env=without_redis(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert ("broker of sgaps up" in done.stdout) == (asking == "doctor"), done.stderr
            assert asking == "doctor" or json.loads(done.stdout) == []


def pid_of_broker(folder: Path) -> int | None:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder / "broker":
                return int(process.name)
    return None


def without_redis() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "REDIS_URL"}


def test_a_service_that_never_comes_up_is_named_with_its_reason(tmp_path: Path) -> None:
    command = [str(SGAPS), "up", "--no-browser", "--port", str(free_port())]
    no_folder = tmp_path / "recordings"
    no_folder.write_text("a file")
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path), "--set", f"data.recordings_dir={no_folder}"],
        env=without_redis(),
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
