"""What `sgaps bench` prints, from counts so small that its figures mean nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sgaps_cli.bench.bus import bench_bus
from sgaps_cli.bench.recorder import bench_recorder
from sgaps_cli.bench.report import Figure, Line, as_json, told
from sgaps_cli.bench.scaling import FRAMES_PER_SEC, bench_scaling


def check(lines: Sequence[Line]) -> list[Figure]:
    """The figures among the lines, once both ways of telling them have been looked at."""
    figures = [line for line in lines if isinstance(line, Figure)]
    for figure in figures:
        for side in (figure.ours, figure.floor):
            assert 0 < side.least <= side.median <= side.most
        assert figure.cpu_secs_per_1000_frames > 0
        assert figure.peak_memory_mib > 10
    rows = [row for row in told(lines).splitlines() if row.startswith("|")]
    assert len(rows) == 2 + len(lines)
    assert len({row.count("|") for row in rows}) == 1
    assert [row["name"] for row in json.loads(as_json(lines))] == [line.name for line in lines]
    return figures


def test_bus() -> None:
    write, read, both = check(bench_bus(frames=200, repeats=1))
    assert both.ours.median < min(write.ours.median, read.ours.median)
    assert both.target is None


def test_recorder() -> None:
    (figure,) = check([bench_recorder(frames=64, repeats=1)])
    assert figure.target is not None
    assert figure.is_met == (figure.ratio >= 0.8)


def test_scaling() -> None:
    two, four = check(bench_scaling(frames=16, repeats=1))
    # A model that only sleeps is the same on every machine: nobody is quicker than it.
    assert two.floor.median < 2 * FRAMES_PER_SEC
    assert four.floor.median == 2 * two.floor.median
