"""`sgaps bench sessions`: how many players are served in time, and what gives first.

More and more of them play at ten frames a second until one frame in a hundred takes longer than
50 ms, or is not answered. Once with the whole loop, whose model is a constant; and once with a
gateway and a broker alone, until frames are stored. The recorder is left out: nothing on a frame's
way waits for it, but it wants its share of a processor (`sgaps bench stages`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from redis import Redis
from rich.console import Console

from sgaps.messages import FrameAccepted
from sgaps_cli import broker
from sgaps_cli.bench import players
from sgaps_cli.bench.gateway import gateway_command, socket_url
from sgaps_cli.bench.latency import Answers
from sgaps_cli.bench.pipeline import worker_command
from sgaps_cli.bench.processes import FIXED_MODEL, listening, own_broker, ready, result_of

P99_LIMIT_MS = 50.0
ANSWERED_LIMIT_PERCENT = 99.0
FIRST = {"answered": 16, "accepted": 128}
"""Players of the first step."""
GROWTH = 1.25
FRAMES = 30
"""Of each player in each step: three seconds."""
WORKERS = {"answered": {"reconstructor": FIXED_MODEL, "sampler": "sampler"}, "accepted": {}}
"""The services behind the gateway, by name."""
WITHOUT_LIMITS = (
    "server.max_sessions=100000",
    "server.max_sessions_per_address=100000",
    "bus.max_backlog=1000000000",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """So many players at once."""

    players: int
    answers: Answers
    cores: Mapping[str, float]
    """Kept busy by each process, and by the players."""

    def is_in_time(self, p99_limit_ms: float) -> bool:
        return (
            self.answers.p99_ms <= p99_limit_ms
            and self.answers.answered_percent >= ANSWERED_LIMIT_PERCENT
        )


@dataclass(frozen=True, kw_only=True)
class Climb:
    """Steps up to the first that is not in time."""

    way: str
    p99_limit_ms: float
    steps: list[Step] = field(default_factory=list)

    @property
    def limit(self) -> int:
        """Players that are served in time; 0 where the first step is too many."""
        in_time = [step.players for step in self.steps if step.is_in_time(self.p99_limit_ms)]
        return max(in_time, default=0)

    @property
    def fields(self) -> dict[str, object]:
        return {**asdict(self), "limit": self.limit}


def bench_sessions(
    *, gateways: int, first: Mapping[str, int] = FIRST, p99_limit_ms: float = P99_LIMIT_MS
) -> list[Climb]:
    """Both ways. Raises BrokerError."""
    return [
        _climb(Climb(way=way, p99_limit_ms=p99_limit_ms), gateways, first[way])
        for way in players.WAYS
    ]


def _climb(climb: Climb, gateways: int, count: int) -> Climb:
    with (
        own_broker() as url,
        Redis.from_url(url) as redis,
        _system(url, redis, climb.way, gateways) as (urls, pids),
    ):
        while not climb.steps or climb.steps[-1].is_in_time(climb.p99_limit_ms):
            with Console(stderr=True).status(f"{count} sessions: {climb.way} in time?"):
                step = _step(climb.way, count, pids, urls, redis)
                if not step.is_in_time(climb.p99_limit_ms):  # a hiccup of the machine is no limit
                    again = _step(climb.way, count, pids, urls, redis)
                    step = min(step, again, key=lambda step: step.answers.p99_ms)
            climb.steps.append(step)
            count = round(count * GROWTH)
    return climb


def _step(way: str, count: int, pids: Mapping[str, int], urls: Sequence[str], redis: Redis) -> Step:
    """With empty streams behind it: no recorder trims them."""
    listed = ",".join(map(str, pids.values()))
    game = result_of(players.__name__, way, count, FRAMES, listed, *urls)
    redis.xtrim(FrameAccepted.STREAM, maxlen=0)
    return Step(
        players=count,
        answers=Answers(**game["answers"]),
        cores=dict(zip([*pids, "players"], game["cores"], strict=True)),
    )


@contextmanager
def _system(
    url: str, redis: Redis, way: str, gateways: int
) -> Iterator[tuple[list[str], dict[str, int]]]:
    """The sockets of the gateways, and the pid of each process by its name."""
    told: Any = redis.info("server")
    pids, urls = {"broker": int(told["process_id"])}, []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        for number in range(1, gateways + 1):
            port = broker.free_port()
            names = [f"server.gateway_id=bench-{number}", f"instance=bench-{number}"]
            command = [*gateway_command(url), f"server.port={port}", *names, *WITHOUT_LIMITS]
            gateway = started.enter_context(listening(command, port))
            pids[f"gateway {number}" if gateways > 1 else "gateway"] = gateway.pid
            urls.append(socket_url(port))
        for service, module in WORKERS[way].items():
            command = worker_command(module, url, folder)
            pids[service] = started.enter_context(ready(command, redis, service=service)).pid
        yield urls, pids


def told(climbs: Sequence[Climb]) -> str:
    """Markdown."""
    return "\n\n".join(map(_table, climbs))


def _table(climb: Climb) -> str:
    names = list(climb.steps[0].cores)
    columns = ["sessions", "p50 ms", "p99 ms", f"{climb.way} %", *names, "together"]
    rows = [columns, ["---"] * len(columns), *map(_row, climb.steps)]
    name, busy = max(climb.steps[-1].cores.items(), key=lambda core: core[1])
    limit = f"Frames {climb.way} within {climb.p99_limit_ms:g} ms (p99): {climb.limit} sessions."
    processors = len(os.sched_getaffinity(0))
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"{limit} Then the busiest is {name}, {busy:.2f} of {processors} processors.",
        ]
    )


def _row(step: Step) -> list[str]:
    return [
        str(step.players),
        f"{step.answers.p50_ms:.1f}",
        f"{step.answers.p99_ms:.1f}",
        f"{step.answers.answered_percent:.1f}",
        *(f"{cores:.2f}" for cores in step.cores.values()),
        f"{sum(step.cores.values()):.2f}",
    ]
