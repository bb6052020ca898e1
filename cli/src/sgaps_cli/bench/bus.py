"""`sgaps bench bus`: frames written, read and acknowledged, beside redis-py alone."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

from sgaps_cli.bench import bus_loop
from sgaps_cli.bench.processes import own_broker, result_of
from sgaps_cli.bench.report import Figure, Run, throughput, tracked

STEPS = ("write", "read and acknowledge", "both")
FLOOR_IS = "the same bytes by redis-py's connections alone, in batches, two on their way at once"


def bench_bus(*, frames: int, repeats: int) -> list[Figure]:
    """A figure for each step; ours and the floor take turns. Raises BrokerError."""
    ours, floor = [], []
    with own_broker() as url:
        for _ in tracked(range(repeats), "bus"):
            ours.append(_runs(url, "ours", frames))
            floor.append(_runs(url, "floor", frames))
    return [
        throughput(f"bus, {step}", *sides, floor_is=FLOOR_IS)
        for step, *sides in zip(
            STEPS, zip(*ours, strict=True), zip(*floor, strict=True), strict=True
        )
    ]


def _runs(url: str, side: str, frames: int) -> Sequence[Run]:
    """In the order of STEPS."""
    with Redis.from_url(url) as redis:
        redis.flushall()
    steps = [Run(**run) for run in result_of(bus_loop.__name__, url, side, frames)]
    return [*steps, _together(steps)]


def _together(steps: Sequence[Run]) -> Run:
    """One after the other, for the same frames."""
    return Run(
        frames_per_sec=1 / sum(1 / run.frames_per_sec for run in steps),
        cpu_secs_per_1000_frames=sum(run.cpu_secs_per_1000_frames for run in steps),
        peak_memory_mib=max(run.peak_memory_mib for run in steps),
    )
