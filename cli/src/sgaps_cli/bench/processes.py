"""Processes that are measured: started, waited for, and asked what they used (Linux)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from redis import Redis

from sgaps.service import heartbeat_key
from sgaps_cli import broker
from sgaps_cli.bench.report import Run, Used, Work
from sgaps_cli.children import ends_with_us

FIXED_MODEL = "sgaps_cli.bench.fixed_model"
"""By its name: whatever has to do with a model is imported by its own process alone."""
START_TIMEOUT_SECS = 120.0
LOOK_EVERY_SECS = 0.01


@contextmanager
def own_broker() -> Iterator[str]:
    """The URL of a broker that is there until the end of the block. Raises BrokerError."""
    with tempfile.TemporaryDirectory() as folder:
        server = broker.start(broker.find_program(), Path(folder), log_file=Path(folder) / "log")
        try:
            yield server.url
        finally:
            server.stop()


@contextmanager
def process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process, given what follows `python`, until the end of the block."""
    quiet = subprocess.DEVNULL
    ours = ends_with_us([sys.executable, *command])
    started = subprocess.Popen(ours, stdout=quiet, stderr=quiet)
    try:
        yield started
    finally:
        started.terminate()
        started.send_signal(signal.SIGCONT)  # one that is held would not hear it
        started.wait()


@contextmanager
def listening(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on a port. Raises BrokerError."""
    with process(command) as started:
        wait_until(lambda: broker.is_listening(port), started, f"it listens on {port}")
        yield started


@contextmanager
def ready(
    command: Sequence[str], redis: Redis, *, service: str, instance: str = "bench"
) -> Iterator[subprocess.Popen[bytes]]:
    """A service whose heartbeat says that it can work. Raises BrokerError."""
    key = heartbeat_key(service, instance)
    with process([*command, f"instance={instance}"]) as started:
        wait_until(lambda: redis.hget(key, "ready") == b"1", started, "it is ready")
        yield started


def wait_until(
    condition: Callable[[], bool],
    started: subprocess.Popen[bytes],
    what: str,
    *,
    timeout_secs: float = START_TIMEOUT_SECS,
    look_every_secs: float = LOOK_EVERY_SECS,
) -> None:
    """Raises BrokerError where the process ends before, or it takes too long."""
    deadline_secs = time.monotonic() + timeout_secs
    while not condition():
        if started.poll() is not None or time.monotonic() > deadline_secs:
            raise broker.BrokerError(f"{_shown(started)} does not get so far that {what}")
        time.sleep(look_every_secs)


def _shown(started: subprocess.Popen[bytes]) -> str:
    arguments: Any = started.args
    return " ".join(map(str, arguments[1:3]))


def result_of(module: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
    """What a module prints as JSON when it is run. Raises BrokerError with its last words."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last_words = done.stderr.strip().rpartition("\n")[2]
        raise broker.BrokerError(f"{module} failed: {last_words}")
    return json.loads(done.stdout)


class Meter:
    """What processes use inside the block, for so many frames: those named, or this very one."""

    def __init__(self, frames: int, pids: Mapping[str, int] | None = None) -> None:
        self._frames = frames
        self._pids = pids or {"": os.getpid()}

    def __enter__(self) -> Self:
        self._began_secs, self._cpu_secs = time.perf_counter(), self._used_secs()
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed:  # a process may be gone
            return
        secs, used_secs = time.perf_counter() - self._began_secs, self._used_secs()
        each = {
            name: Used(
                cpu_secs_per_1000_frames=(used_secs[name] - before_secs) / self._frames * 1000,
                peak_memory_mib=peak_memory_mib(self._pids[name]),
            )
            for name, before_secs in self._cpu_secs.items()
        }
        self.work = Work(
            cpu_secs_per_1000_frames=sum(used.cpu_secs_per_1000_frames for used in each.values()),
            peak_memory_mib=sum(used.peak_memory_mib for used in each.values()),
            by_process=each if len(each) > 1 else {},
        )
        self.run = Run(frames_per_sec=self._frames / secs, **vars(self.work))

    def _used_secs(self) -> dict[str, float]:
        return {name: cpu_secs(pid) for name, pid in self._pids.items()}


def cpu_secs(pid: int) -> float:
    """User and system time of a process so far."""
    if pid == os.getpid():
        return time.process_time()  # to the nanosecond
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mib(pid: int) -> float:
    """The most that a process had resident."""
    return _mib_of(pid, "VmHWM")


def memory_mib(pid: int) -> float:
    """What a process has resident now."""
    return _mib_of(pid, "VmRSS")


def _mib_of(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
