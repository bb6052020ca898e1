"""`sgaps bench pipeline`: from a frame to the coordinates that answer it, beside bare hops.

Gateway, reconstructor and sampler are real, but for a model that takes no time. The recorder is
left out: nothing on a frame's way waits for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from redis import Redis

from sgaps_cli import broker
from sgaps_cli.bench import hop, latency
from sgaps_cli.bench.gateway import gateway_command, socket_url
from sgaps_cli.bench.load import CONNECTIONS
from sgaps_cli.bench.processes import (
    FIXED_MODEL,
    Meter,
    listening,
    own_broker,
    process,
    ready,
    result_of,
)
from sgaps_cli.bench.report import Figure, Target, Work, compared, tracked

TARGETS = {
    "latency p50": Target(limit=2, at_most=True),
    "latency p99": Target(limit=3, at_most=True),
}
FLOOR_IS = f"{hop.HOPS} hops of XADD, XREADGROUP and XACK through bare processes"


@dataclass(frozen=True, kw_only=True)
class Played(Work):
    """What came of the frames of eight players, and what the processes used for them."""

    answers: latency.Answers


def bench_pipeline(*, frames: int, repeats: int) -> list[Figure]:
    """`frames` are those of each of eight players. Raises BrokerError."""
    ours, floor = [], []
    for _ in tracked(range(repeats), "pipeline"):
        with own_broker() as url, services(url, model=FIXED_MODEL) as (port, pids):
            ours.append(play(port, pids, frames))
        with own_broker() as url:
            floor.append(_hops(url, frames))
    return latencies("pipeline", ours, floor, floor_is=FLOOR_IS, targets=TARGETS)


def latencies(
    name: str,
    ours: Sequence[Played],
    floor: Sequence[Played],
    *,
    floor_is: str,
    targets: Mapping[str, Target],
) -> list[Figure]:
    """How long answers took, and how many frames had one."""
    values: dict[str, tuple[str, Callable[[Played], float]]] = {
        "latency p50": ("ms", lambda run: run.answers.p50_ms),
        "latency p99": ("ms", lambda run: run.answers.p99_ms),
        "answered": ("% of frames", lambda run: run.answers.answered_percent),
    }
    return [
        compared(
            f"{name}, {what}",
            unit,
            value,
            ours,
            floor,
            floor_is=floor_is,
            target=targets.get(what),
        )
        for what, (unit, value) in values.items()
    ]


@contextmanager
def services(url: str, *, model: str) -> Iterator[tuple[int, dict[str, int]]]:
    """The port of a gateway, and the pid of each service by its name.

    `model` is the module of the reconstructor. Raises BrokerError.
    """
    port = broker.free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        Redis.from_url(url) as redis,
        listening([*gateway_command(url), f"server.port={port}"], port) as gateway,
        ready(worker_command(model, url, folder), redis, service="reconstructor") as reconstructor,
        ready(worker_command("sampler", url, folder), redis, service="sampler") as sampler,
    ):
        started = {"gateway": gateway, "reconstructor": reconstructor, "sampler": sampler}
        yield port, {name: process.pid for name, process in started.items()}


def play(
    port: int,
    pids: Mapping[str, int],
    frames: int,
    *,
    frames_per_sec: float = latency.FRAMES_PER_SEC,
) -> Played:
    """Eight players of a server that is these processes. Raises BrokerError."""
    return _played("pipeline", socket_url(port), frames, frames_per_sec, pids)


def worker_command(module: str, url: str, folder: str) -> list[str]:
    """Importance is what `sgaps up` has."""
    return ["-m", module, f"bus.url={url}", f"data.checkpoints_dir={folder}", "importance=learned"]


def _hops(url: str, frames: int) -> Played:
    with Redis.from_url(url) as redis, ExitStack() as started:
        for stream in hop.STREAMS:
            redis.xgroup_create(stream, hop.GROUP, id="0", mkstream=True)
        pids = {
            f"hop {n}": started.enter_context(process(["-m", hop.__name__, url, str(n)])).pid
            for n in range(hop.HOPS - 1)
        }
        return _played("hops", url, frames, latency.FRAMES_PER_SEC, pids)


def _played(
    way: str, url: str, frames: int, frames_per_sec: float, pids: Mapping[str, int]
) -> Played:
    with Meter(CONNECTIONS * (latency.WARM_UP_FRAMES + frames), pids) as meter:
        told = result_of(latency.__name__, way, url, frames, frames_per_sec)
    return Played(answers=latency.Answers(**told), **vars(meter.work))
