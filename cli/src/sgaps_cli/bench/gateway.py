"""`sgaps bench gateway`: frames per second of one gateway process, beside the floor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from redis import Redis

from sgaps.protocol import binary_codec, json_codec
from sgaps_cli import broker
from sgaps_cli.bench import load
from sgaps_cli.bench.report import Figure, Spread

UNLIMITED = 1e9
START_TIMEOUT_SECS = 120.0
TARGET_RATIO = 0.6
FORMS = {"binary": binary_codec.SUBPROTOCOL, "JSON": json_codec.SUBPROTOCOL}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One server under load."""

    frames_per_sec: float
    cpu_secs_per_1000_frames: float
    peak_memory_mib: float


def bench_gateway(*, frames: int, repeats: int) -> list[Figure]:
    """A figure for each form of the protocol; ours and the floor take turns."""
    with tempfile.TemporaryDirectory() as folder:
        server = broker.start(broker.find_program(), Path(folder), log_file=Path(folder) / "log")
        try:
            return [_figure(form, server.url, frames, repeats) for form in FORMS]
        finally:
            server.stop()


def _figure(form: str, redis_url: str, frames: int, repeats: int) -> Figure:
    ours, floor = [], []
    for _ in range(repeats):
        ours.append(_run(gateway_command(redis_url), form, redis_url, frames))
        floor.append(_run(_floor_command(redis_url), form, redis_url, frames))
    return Figure(
        name=f"gateway, {form} form",
        unit="frames/s",
        ours=Spread.of([run.frames_per_sec for run in ours]),
        floor=Spread.of([run.frames_per_sec for run in floor]),
        floor_is="the same server, receive and XADD alone",
        target_ratio=TARGET_RATIO,
        cpu_secs_per_1000_frames=float(np.median([r.cpu_secs_per_1000_frames for r in ours])),
        peak_memory_mib=max(run.peak_memory_mib for run in ours),
    )


def gateway_command(redis_url: str) -> list[str]:
    return ["-m", "gateway", f"bus.url={redis_url}", f"server.max_frame_rate={UNLIMITED:g}"]


def _floor_command(redis_url: str) -> list[str]:
    return ["-m", "sgaps_cli.bench.floor", redis_url]


def _run(command: Sequence[str], form: str, redis_url: str, frames: int) -> Run:
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    port = broker.free_port()
    where = f"server.port={port}" if "gateway" in command else str(port)
    placed = [*command[:2], where, *command[2:]]
    with running([sys.executable, *placed], port) as process:
        before_secs = cpu_secs(process.pid)
        secs = play(port, FORMS[form], frames)
        sent = frames // load.CONNECTIONS * load.CONNECTIONS
        return Run(
            frames_per_sec=sent / secs,
            cpu_secs_per_1000_frames=(cpu_secs(process.pid) - before_secs) / sent * 1000,
            peak_memory_mib=_peak_memory_mib(process.pid),
        )


def play(port: int, subprotocol: str, frames: int) -> float:
    """Send frames to a gateway as fast as it takes them; the seconds it took."""
    url = f"ws://127.0.0.1:{port}/ws/stream"
    told = subprocess.run(
        [sys.executable, "-m", load.__name__, url, subprotocol, str(frames)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(told.stdout)


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_secs = time.monotonic() + START_TIMEOUT_SECS
        while not broker.is_listening(port):
            if process.poll() is not None or time.monotonic() > deadline_secs:
                raise broker.BrokerError(f"{' '.join(command[1:])} does not listen on {port}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def cpu_secs(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
