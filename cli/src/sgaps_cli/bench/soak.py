"""`sgaps bench soak`: whether memory, and what a frame costs, stay what they were.

Sixteen players come and go, thousands of sessions one after the other; gateway, sampler, recorder
and broker are real, the model is a constant unless the shipped one is asked for. The first quarter
is left out, in which what is remembered of sessions still fills its room: five minutes in a broker,
128 MiB in a reconstructor. The second and the last are compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from sgaps_cli import broker
from sgaps_cli.bench import soak_players
from sgaps_cli.bench.gateway import gateway_command, socket_url
from sgaps_cli.bench.latency import Answers
from sgaps_cli.bench.pipeline import worker_command
from sgaps_cli.bench.processes import (
    FIXED_MODEL,
    cpu_secs,
    listening,
    memory_mib,
    own_broker,
    ready,
)
from sgaps_cli.bench.report import tracked
from sgaps_cli.bench.soak_players import Interval
from sgaps_cli.children import ends_with_us

INTERVALS = 20
"""In each, everything is looked at once; a whole number of them are a quarter."""
MOST_MEMORY, MOST_CPU = 1.05, 1.10
"""In the last quarter, beside the second."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """At a process, at one moment."""

    memory_mib: float
    cpu_secs: float
    """So far."""
    files: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Quarter:
    """Of a process."""

    memory_mib: float
    """The median of what was resident."""
    cpu_ms_per_frame: float
    files: int
    """The most that were open."""
    threads: int


@dataclass(frozen=True, kw_only=True)
class Soak:
    """The second quarter and the last, of each process and of the players."""

    minutes: float
    sessions: int
    frames: int
    refused: int
    processes: Mapping[str, tuple[Quarter, Quarter]]
    answers: tuple[Answers, Answers]

    @property
    def grown(self) -> list[str]:
        """What did not stay what it was."""
        return [
            what
            for name, (before, after) in self.processes.items()
            for what, is_grown in {
                f"memory of {name}": after.memory_mib > MOST_MEMORY * before.memory_mib,
                f"CPU of {name}": after.cpu_ms_per_frame > MOST_CPU * before.cpu_ms_per_frame,
            }.items()
            if is_grown
        ]

    @property
    def fields(self) -> dict[str, object]:
        return {**asdict(self), "grown": self.grown}


def bench_soak(*, minutes: float, real_model: bool) -> Soak:
    """Raises BrokerError where a service or a session ends before."""
    with (
        tempfile.TemporaryDirectory() as folder,
        own_broker() as url,
        Redis.from_url(url) as redis,
        _system(url, redis, folder, real_model=real_model) as (port, pids),
    ):
        looks, intervals = [_looked_at(pids)], []
        playing = played(socket_url(port), 60 * minutes)
        for _ in tracked(range(INTERVALS), f"{minutes:g} minutes of players who come and go"):
            intervals.append(next(playing))
            looks.append(_looked_at(pids))
    return summed(minutes, intervals, looks)


@contextmanager
def _system(
    url: str, redis: Redis, folder: str, *, real_model: bool
) -> Iterator[tuple[int, dict[str, int]]]:
    """The port of the gateway, and the pid of each process by its name."""
    told: Any = redis.info("server")
    pids, port = {"broker": int(told["process_id"])}, broker.free_port()
    modules = {
        "reconstructor": "reconstructor" if real_model else FIXED_MODEL,
        "sampler": "sampler",
        "recorder": "recorder",
    }
    with ExitStack() as started:
        gateway = listening([*gateway_command(url), f"server.port={port}"], port)
        pids["gateway"] = started.enter_context(gateway).pid
        for service, module in modules.items():
            recordings = f"data.recordings_dir={folder}/recordings"
            command = [*worker_command(module, url, f"{folder}/checkpoints"), recordings]
            pids[service] = started.enter_context(ready(command, redis, service=service)).pid
        yield port, pids


def played(url: str, secs: float) -> Iterator[Interval]:
    """As each interval ends. Raises BrokerError with the last words of players that fail."""
    command = [sys.executable, "-m", soak_players.__name__, url, str(secs), str(INTERVALS)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            ends_with_us(command), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as players,
    ):
        for line in players.stdout or ():
            yield Interval(**json.loads(line))
        errors.seek(0)
        last_words = errors.read().strip().rpartition("\n")[2]
        raise broker.BrokerError(f"the players failed: {last_words}")


def _looked_at(pids: Mapping[str, int]) -> dict[str, Look]:
    return {name: look_at(name, pid) for name, pid in pids.items()}


def look_at(name: str, pid: int) -> Look:
    """Raises BrokerError where it has ended."""
    try:
        return Look(
            memory_mib=memory_mib(pid),
            cpu_secs=cpu_secs(pid),
            files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
            threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        )
    except (OSError, ValueError):  # ValueError: it has ended, and has no memory any more
        raise broker.BrokerError(f"{name} ended while players came and went") from None


def summed(
    minutes: float, intervals: Sequence[Interval], looks: Sequence[Mapping[str, Look]]
) -> Soak:
    """`looks` lie at both ends of each interval: they are one more."""
    length = len(intervals) // 4
    second, last = range(length, 2 * length), range(len(intervals) - length, len(intervals))

    def of_process(name: str, quarter: range) -> Quarter:
        seen = [looks[at][name] for at in (*quarter, quarter.stop)]
        frames = sum(intervals[at].frames for at in quarter)
        return Quarter(
            memory_mib=median(look.memory_mib for look in seen),
            cpu_ms_per_frame=1000 * (seen[-1].cpu_secs - seen[0].cpu_secs) / frames,
            files=max(look.files for look in seen),
            threads=max(look.threads for look in seen),
        )

    return Soak(
        minutes=minutes,
        sessions=sum(interval.sessions for interval in intervals),
        frames=sum(interval.frames for interval in intervals),
        refused=sum(interval.refused for interval in intervals),
        processes={name: (of_process(name, second), of_process(name, last)) for name in looks[0]},
        answers=(
            _answers([intervals[at] for at in second]),
            _answers([intervals[at] for at in last]),
        ),
    )


def _answers(intervals: Sequence[Interval]) -> Answers:
    """Medians of the intervals' percentiles."""
    frames = sum(interval.frames for interval in intervals)
    return Answers(
        answered_percent=100 * sum(interval.answered for interval in intervals) / frames,
        p50_ms=median(interval.p50_ms for interval in intervals),
        p99_ms=median(interval.p99_ms for interval in intervals),
    )


def told(soak: Soak) -> str:
    """Markdown."""
    columns = ("second quarter → last", "memory, MiB", "CPU, ms a frame", "open files", "threads")
    rows = [columns, ("---",) * len(columns)]
    rows += [(name, *_cells(before, after)) for name, (before, after) in soak.processes.items()]
    before, after = soak.answers
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"{soak.sessions:,} sessions and {soak.frames:,} frames in {soak.minutes:g} minutes, "
            f"{soak.refused} messages refused; answered {before.answered_percent:.1f} → "
            f"{after.answered_percent:.1f} %, p50 {before.p50_ms:.1f} → {after.p50_ms:.1f} ms, "
            f"p99 {before.p99_ms:.1f} → {after.p99_ms:.1f} ms.",
            f"Grown by more than {MOST_MEMORY - 1:.0%} (memory) or {MOST_CPU - 1:.0%} (CPU): "
            f"{', '.join(soak.grown) or 'nothing'}.",
        ]
    )


def _cells(before: Quarter, after: Quarter) -> tuple[str, ...]:
    return (
        f"{before.memory_mib:.1f} → {after.memory_mib:.1f}",
        f"{before.cpu_ms_per_frame:.2f} → {after.cpu_ms_per_frame:.2f}",
        f"{before.files} → {after.files}",
        f"{before.threads} → {after.threads}",
    )
