"""`sgaps bench stages`: what a frame costs each service, and the broker.

Each service, a real process, drains frames that wait for it. Seconds are the processors', not the
clock's, so a busy machine changes little.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from redis import Redis
from rich.console import Console

from sgaps.bus.redis_commands import FIELD
from sgaps.messages import FrameReconstructed, Message
from sgaps_cli import broker
from sgaps_cli.bench import frames as made
from sgaps_cli.bench.drain import hold_and_fill, release
from sgaps_cli.bench.gateway import FORMS, gateway_command, play
from sgaps_cli.bench.processes import cpu_secs, listening, own_broker, peak_memory_mib, ready
from sgaps_cli.bench.profile import Profile, profiled

BATCHES = {"recorder": 256, "reconstructor": 4, "sampler": made.SESSIONS}
"""The largest in which no frame supersedes another: on a CPU a reconstructor does four at once."""

FRAMES_OF_A_GATEWAY = 8
"""For each frame of the others: it is quick, and its eight sessions have to begin."""

LOOK_EVERY_SECS = 0.5
"""Each look is a command that the broker counts."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Of one frame, on average; and the most memory that was resident."""

    stage: str
    cpu_secs_per_1000: float
    peak_memory_mib: float
    broker_cpu_secs_per_1000: float
    broker_commands: float
    broker_bytes_in: float
    broker_bytes_out: float


T = TypeVar("T")
Look: TypeAlias = Callable[[str, int, int], AbstractContextManager[list[T]]]
"""Looks at a stage, by its name and pid, while it does so many frames: what was seen is in the list
behind the block."""


def bench_stages(*, frames: int) -> list[StageCost]:
    """The cost of each service in the order of a frame's way. Raises BrokerError."""
    with _services(frames) as bench:
        look = _counting(bench.redis)
        return [bench.gateway(look), *bench.workers(look)]


def profile_stages(*, frames: int) -> list[Profile]:
    """Where the time of each worker goes. Raises BrokerError."""
    with _services(frames) as bench:
        return list(bench.workers(lambda name, pid, count: profiled({name: pid}, count)))


@contextmanager
def _services(frames: int) -> Iterator[_Bench]:
    with (
        own_broker() as url,
        Redis.from_url(url) as redis,
        tempfile.TemporaryDirectory() as folder,
    ):
        yield _Bench(redis, url, Path(folder), frames)


@dataclass(frozen=True)
class _Bench:
    redis: Redis
    url: str
    folder: Path
    frames: int

    def gateway(self, look: Look[T]) -> T:
        port = broker.free_port()
        command = [*gateway_command(self.url), f"server.port={port}"]
        frames = self.frames * FRAMES_OF_A_GATEWAY
        with (
            _telling("gateway", frames),
            listening(command, port) as process,
            look("gateway", process.pid, frames) as seen,
        ):
            play(port, FORMS["binary"], frames)
        return seen[0]

    def workers(self, look: Look[T]) -> Iterator[T]:
        accepted = made.accepted_frames(self.frames)
        yield self._drained("recorder", accepted, look)
        yield self._drained("reconstructor", accepted, look)
        rows: Any = self.redis.xrange(FrameReconstructed.STREAM)
        rebuilt = [FrameReconstructed.decode(fields[FIELD]) for _, fields in rows]
        yield self._drained("sampler", rebuilt, look)

    def _drained(self, name: str, waiting: Sequence[Message], look: Look[T]) -> T:
        """A service that is up, and held while its stream is filled, does all of it."""
        self.redis.flushall()
        command = ["-m", name, *self._settings(name)]
        with (
            _telling(name, len(waiting)),
            ready(command, self.redis, service=name) as process,
        ):
            hold_and_fill(self.redis, [process], waiting)
            with look(name, process.pid, len(waiting)) as seen:
                release(self.redis, [process], waiting, group=name, look_every_secs=LOOK_EVERY_SECS)
        return seen[0]

    def _settings(self, name: str) -> list[str]:
        return [
            f"bus.url={self.url}",
            f"bus.batch_size={BATCHES[name]}",
            f"data.recordings_dir={self.folder / 'recordings'}",
            f"data.checkpoints_dir={self.folder / 'checkpoints'}",
            "importance=learned",
        ]


def _telling(stage: str, frames: int) -> AbstractContextManager[object]:
    """What is under way, to who waits for it."""
    return Console(stderr=True).status(f"{stage}: {frames} frames")


def _counting(redis: Redis) -> Look[StageCost]:
    """Processor time of the stage and of the broker, and what went between them."""

    def info() -> Mapping[str, float]:
        told: Any = redis.info()
        return {name: float(told[name]) for name in _COUNTERS}

    @contextmanager
    def counted(stage: str, pid: int, frames: int) -> Iterator[list[StageCost]]:
        costs: list[StageCost] = []
        before, before_secs = info(), cpu_secs(pid)
        yield costs
        after, after_secs = info(), cpu_secs(pid)
        used = {name: (after[name] - before[name]) / frames for name in before}
        costs.append(
            StageCost(
                stage=stage,
                cpu_secs_per_1000=(after_secs - before_secs) / frames * 1000,
                peak_memory_mib=peak_memory_mib(pid),
                broker_cpu_secs_per_1000=(used["used_cpu_user"] + used["used_cpu_sys"]) * 1000,
                broker_commands=used["total_commands_processed"],
                broker_bytes_in=used["total_net_input_bytes"],
                broker_bytes_out=used["total_net_output_bytes"],
            )
        )

    return counted


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
        "| bytes to the broker | bytes from it | peak MiB of the service |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.stage} | {cost.cpu_secs_per_1000:.2f} | {cost.broker_cpu_secs_per_1000:.3f} "
        f"| {cost.broker_commands:.1f} | {cost.broker_bytes_in:,.0f} "
        f"| {cost.broker_bytes_out:,.0f} | {cost.peak_memory_mib:,.0f} |"
        for cost in costs
    ]
    return "\n".join(lines)
