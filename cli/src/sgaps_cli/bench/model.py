"""`sgaps bench model`: the shipped checkpoint, from samples to the next coordinates."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from sgaps_cli.bench.pictures import Pace, Picture, cpu_pictures, gpu_pictures
from sgaps_cli.bench.processes import result_of
from sgaps_cli.bench.report import Figure, Line, Target, Unmeasured, compared, tracked

LOOP = "sgaps_cli.bench.model_loop"
FLOOR_IS = "one forward pass of the same weights over a whole batch that is ready"


def bench_model(*, frames: int, repeats: int) -> list[Line]:
    """Figures of the CPU, and of a GPU where there is one. Raises BrokerError."""
    has_gpu = result_of(LOOP, "gpu")
    pictures = [*cpu_pictures(frames), *(gpu_pictures() if has_gpu else [])]
    lines: list[Line] = [figure for picture in pictures for figure in figures(picture, repeats)]
    if not has_gpu:
        lines.append(Unmeasured(name="model, GPU", why="torch finds none here"))
    return lines


def figures(picture: Picture, repeats: int) -> list[Figure]:
    """Three for each size of a batch; ours and the floor take turns."""
    ours, floor = [], []
    for _ in tracked(range(repeats), str(picture)):
        ours.append(_paces("ours", picture))
        floor.append(_paces("floor", picture))
    return [
        figure
        for batch, *sides in zip(
            picture.batches, zip(*ours, strict=True), zip(*floor, strict=True), strict=True
        )
        for figure in _of_batch(picture, batch, *sides)
    ]


def _paces(side: str, picture: Picture) -> list[Pace]:
    """In the order of the batches."""
    return [Pace(**pace) for pace in result_of(LOOP, side, json.dumps(asdict(picture)))]


def _of_batch(
    picture: Picture, batch: int, ours: Sequence[Pace], floor: Sequence[Pace]
) -> list[Figure]:
    def figure(unit: str, value: Callable[[Pace], float], target: Target | None) -> Figure:
        name = f"{picture}, batch {batch}"
        return compared(name, unit, value, ours, floor, floor_is=FLOOR_IS, target=target)

    return [
        figure("frames/s", lambda pace: pace.frames_per_sec, picture.throughput_target(batch)),
        figure("p50 ms", lambda pace: pace.p50_ms, None),
        figure("p99 ms", lambda pace: pace.p99_ms, picture.latency_target(batch)),
    ]
