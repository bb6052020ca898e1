"""`sgaps bench stages`: what a frame costs each service, and the broker.

Each service, a real process, drains frames that wait for it. Seconds are the processors', not the
clock's, so a busy machine changes little.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from sgaps.bus.base import LEDGER_KEY
from sgaps.bus.redis_commands import FIELD
from sgaps.messages import FrameAccepted, FrameReconstructed, Message
from sgaps_cli import broker
from sgaps_cli.bench import frames as made
from sgaps_cli.bench.gateway import FORMS, cpu_secs, gateway_command, play, running

TIMEOUT_SECS = 900.0
BATCHES = {"recorder": 256, "reconstructor": 4, "sampler": made.SESSIONS}
"""The largest in which no frame supersedes another: on a CPU a reconstructor does four at once."""

FRAMES_OF_A_GATEWAY = 8
"""For each frame of the others: it is quick, and its eight sessions have to begin."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Of one frame, on average."""

    stage: str
    cpu_secs_per_1000: float
    broker_cpu_secs_per_1000: float
    broker_commands: float
    broker_bytes_in: float
    broker_bytes_out: float


def bench_stages(*, frames: int) -> list[StageCost]:
    """The cost of each service in the order of a frame's way. Raises BrokerError."""
    with tempfile.TemporaryDirectory() as folder:
        server = broker.start(broker.find_program(), Path(folder), log_file=Path(folder) / "log")
        try:
            with Redis.from_url(server.url) as redis:
                bench = _Bench(redis, server.url, Path(folder), frames)
                return [bench.gateway(), *bench.workers()]
        finally:
            server.stop()


@dataclass(frozen=True)
class _Bench:
    redis: Redis
    url: str
    folder: Path
    frames: int

    def gateway(self) -> StageCost:
        port = broker.free_port()
        command = [sys.executable, *gateway_command(self.url), f"server.port={port}"]
        frames = self.frames * FRAMES_OF_A_GATEWAY
        with (
            running(command, port) as process,
            self._counted("gateway", process.pid, frames) as costs,
        ):
            play(port, FORMS["binary"], frames)
        return costs[0]

    def workers(self) -> Iterator[StageCost]:
        accepted = made.accepted_frames(self.frames)
        yield self._drained("recorder", accepted, lambda: self._done(FrameAccepted, "recorder"))
        yield self._drained(
            "reconstructor", accepted, lambda: self._done(FrameAccepted, "reconstructor")
        )
        rows: Any = self.redis.xrange(FrameReconstructed.STREAM)
        rebuilt = [FrameReconstructed.decode(fields[FIELD]) for _, fields in rows]
        yield self._drained("sampler", rebuilt, lambda: self._done(FrameReconstructed, "sampler"))

    def _done(self, message: type[Message], group: str) -> int:
        """Frames that a group has acknowledged."""
        (told,) = (g for g in self._groups(message.STREAM) if g["name"] == group.encode())
        return int(told["entries-read"] or 0) - int(told["pending"])

    def _groups(self, stream: str) -> list[dict[str, Any]]:
        groups: Any = self.redis.xinfo_groups(stream)
        return list(groups)

    def _drained(self, name: str, waiting: Sequence[Message], done: Callable[[], int]) -> StageCost:
        """A service that is up, and held while its stream is filled, does all of it."""
        self.redis.flushall()
        with self._service(name) as process:
            self._wait_for(lambda: self._is_up(name), f"{name} is up")
            process.send_signal(signal.SIGSTOP)
            made.fill(self.redis, waiting)
            with self._counted(name, process.pid, len(waiting)) as costs:
                process.send_signal(signal.SIGCONT)
                self._wait_for(lambda: done() >= len(waiting), f"{name} has done all")
        if self.redis.hexists(LEDGER_KEY, "superseded"):
            raise broker.BrokerError(f"{name} was not given the time to do all: frames superseded")
        return costs[0]

    def _is_up(self, name: str) -> bool:
        keys: Any = self.redis.keys(f"sgaps:heartbeat:{name}:*")
        return any(self.redis.hget(key, "ready") == b"1" for key in keys)

    @contextmanager
    def _service(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        settings = [
            f"bus.url={self.url}",
            f"data.recordings_dir={self.folder / 'recordings'}",
            f"data.checkpoints_dir={self.folder / 'checkpoints'}",
        ]
        settings += ["importance=learned", f"bus.batch_size={BATCHES[name]}"]
        command = [sys.executable, "-m", name, *settings]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()

    @contextmanager
    def _counted(self, stage: str, pid: int, frames: int) -> Iterator[list[StageCost]]:
        """What is used inside the block stands in the list behind it."""
        costs: list[StageCost] = []
        before, before_secs = self._info(), cpu_secs(pid)
        yield costs
        after, after_secs = self._info(), cpu_secs(pid)
        used = {name: (after[name] - before[name]) / frames for name in before}
        costs.append(
            StageCost(
                stage=stage,
                cpu_secs_per_1000=(after_secs - before_secs) / frames * 1000,
                broker_cpu_secs_per_1000=(used["used_cpu_user"] + used["used_cpu_sys"]) * 1000,
                broker_commands=used["total_commands_processed"],
                broker_bytes_in=used["total_net_input_bytes"],
                broker_bytes_out=used["total_net_output_bytes"],
            )
        )

    def _info(self) -> Mapping[str, float]:
        told: Any = self.redis.info()
        return {name: float(told[name]) for name in _COUNTERS}

    @staticmethod
    def _wait_for(condition: Callable[[], bool], what: str) -> None:
        deadline_secs = time.monotonic() + TIMEOUT_SECS
        while not condition():
            if time.monotonic() > deadline_secs:
                raise broker.BrokerError(f"not within {TIMEOUT_SECS:g} s: {what}")
            time.sleep(0.5)


_COUNTERS = (
    "used_cpu_user",
    "used_cpu_sys",
    "total_commands_processed",
    "total_net_input_bytes",
    "total_net_output_bytes",
)


def told(costs: Sequence[StageCost]) -> str:
    """Markdown."""
    lines = [
        "| of one frame | CPU s per 1,000 | broker's CPU s per 1,000 | broker's commands "
        "| bytes to the broker | bytes from it |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.stage} | {cost.cpu_secs_per_1000:.2f} | {cost.broker_cpu_secs_per_1000:.3f} "
        f"| {cost.broker_commands:.1f} | {cost.broker_bytes_in:,.0f} "
        f"| {cost.broker_bytes_out:,.0f} |"
        for cost in costs
    ]
    return "\n".join(lines)
