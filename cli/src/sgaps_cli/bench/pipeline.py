"""`sgaps bench pipeline`: from a frame to the coordinates that answer it, beside bare hops.

Gateway, reconstructor and sampler are real, but for a model that takes no time. The recorder is
left out: nothing on a frame's way waits for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from redis import Redis

from sgaps_cli import broker
from sgaps_cli.bench import hop, latency
from sgaps_cli.bench.gateway import gateway_command, socket_url
from sgaps_cli.bench.load import CONNECTIONS
from sgaps_cli.bench.processes import (
    FIXED_MODEL,
    cpu_secs,
    listening,
    own_broker,
    peak_memory_mib,
    process,
    ready,
    result_of,
)
from sgaps_cli.bench.report import Figure, Spread, Target, tracked

PERCENTILES = {
    "p50": Target(limit=2, at_most=True),
    "p99": Target(limit=3, at_most=True),
}
FLOOR_IS = f"{hop.HOPS} hops of XADD, XREADGROUP and XACK through bare processes"


@dataclass(frozen=True, kw_only=True)
class _Run:
    answers: latency.Answers
    cpu_secs_per_1000_frames: float = 0.0
    peak_memory_mib: float = 0.0


def bench_pipeline(*, frames: int, repeats: int) -> list[Figure]:
    """`frames` are those of each of eight players. Raises BrokerError."""
    ours, floor = [], []
    for _ in tracked(range(repeats), "pipeline"):
        with own_broker() as url:
            ours.append(_pipeline(url, frames))
        with own_broker() as url:
            floor.append(_hops(url, frames))
    return [
        *(
            _figure(f"latency {name}", "ms", f"{name}_ms", ours, floor, target)
            for name, target in PERCENTILES.items()
        ),
        _figure("answered", "% of frames", "answered_percent", ours, floor, None),
    ]


def _figure(
    name: str,
    unit: str,
    field: str,
    ours: Sequence[_Run],
    floor: Sequence[_Run],
    target: Target | None,
) -> Figure:
    return Figure(
        name=f"pipeline, {name}",
        unit=unit,
        ours=Spread.of([getattr(run.answers, field) for run in ours]),
        floor=Spread.of([getattr(run.answers, field) for run in floor]),
        floor_is=FLOOR_IS,
        target=target,
        cpu_secs_per_1000_frames=Spread.of([r.cpu_secs_per_1000_frames for r in ours]).median,
        peak_memory_mib=max(run.peak_memory_mib for run in ours),
    )


def _pipeline(url: str, frames: int) -> _Run:
    port = broker.free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        Redis.from_url(url) as redis,
        listening([*gateway_command(url), f"server.port={port}"], port) as gateway,
        ready(_worker(FIXED_MODEL, url, folder), redis, service="reconstructor") as model,
        ready(_worker("sampler", url, folder), redis, service="sampler") as sampler,
    ):
        pids = [gateway.pid, model.pid, sampler.pid]
        before_secs = cpu_secs(*pids)
        answers = _answers("pipeline", socket_url(port), frames)
        sent = CONNECTIONS * (latency.WARM_UP_FRAMES + frames)
        return _Run(
            answers=answers,
            cpu_secs_per_1000_frames=(cpu_secs(*pids) - before_secs) / sent * 1000,
            peak_memory_mib=peak_memory_mib(*pids),
        )


def _worker(module: str, url: str, folder: str) -> list[str]:
    """Importance is what `sgaps up` has."""
    return ["-m", module, f"bus.url={url}", f"data.checkpoints_dir={folder}", "importance=learned"]


def _hops(url: str, frames: int) -> _Run:
    with Redis.from_url(url) as redis, ExitStack() as started:
        for stream in hop.STREAMS:
            redis.xgroup_create(stream, hop.GROUP, id="0", mkstream=True)
        for number in range(hop.HOPS - 1):
            started.enter_context(process(["-m", hop.__name__, url, str(number)]))
        return _Run(answers=_answers("hops", url, frames))


def _answers(way: str, url: str, frames: int) -> latency.Answers:
    return latency.Answers(**result_of(latency.__name__, way, url, frames))
