"""What `sgaps bench` prints, from counts so small that its figures mean nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reconstructor.worker import frame_input
from sgaps_cli.bench import client_loop, model_loop
from sgaps_cli.bench.alternatives import SOURCE, bench_alternatives
from sgaps_cli.bench.bus import bench_bus
from sgaps_cli.bench.model import figures
from sgaps_cli.bench.pictures import cpu_pictures, gpu_pictures
from sgaps_cli.bench.pipeline import bench_pipeline
from sgaps_cli.bench.processes import process, result_of
from sgaps_cli.bench.profile import place_of, profiled
from sgaps_cli.bench.profile import told as profile_told
from sgaps_cli.bench.recorder import bench_recorder
from sgaps_cli.bench.report import Figure, Line, as_json, told
from sgaps_cli.bench.scaling import FRAMES_PER_SEC, bench_scaling
from sgaps_cli.bench.stages import profile_stages
from tools import require


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


def test_alternatives() -> None:
    *lines, readback = bench_alternatives(frames=1, repeats=1)
    p50, p99, answered, cpu, memory, client_cpu, sent = check([*lines, readback])
    assert p50.floor.median <= p99.floor.median
    assert max(answered.ours.median, answered.floor.median) <= 100
    assert memory.ratio > 1  # four processes and a broker
    assert cpu.target is None
    assert client_cpu.floor.median > 0
    assert sent.ours.median < 700


def test_x264_sends_as_many_bytes_as_it_is_given() -> None:
    few, many = (client_loop.main(str(size), SOURCE, 60).bytes_per_frame for size in (300, 3000))
    assert few < 600
    assert many > 3 * few


def test_bus() -> None:
    _, _, both = check(bench_bus(frames=200, repeats=1))
    assert both.target is None


def test_model() -> None:
    small, *_ = cpu_pictures(frames=2)
    rate, p50, p99 = check(figures(replace(small, batches=(2,)), repeats=1))
    assert rate.target is not None
    assert rate.is_met == (rate.ours.median >= 20)
    assert p50.ours.median <= p99.ours.median


def test_an_atlas_that_is_measured_is_looked_up() -> None:
    """What is not recalled costs nothing, and would be measured as quick."""
    _, by_heart, _ = cpu_pictures(frames=1)
    picture = replace(by_heart, atlas_pictures=40)
    settings = model_loop.settings_of(picture)
    ((accepted, past),) = model_loop.waiting_frames(picture, settings)
    frame = frame_input(accepted, past)
    nowhere = replace(frame, state=np.empty(0, np.float32))
    reconstructor = model_loop.reconstructor_of(picture, settings)
    here, there = reconstructor.reconstruct([frame, nowhere])
    assert (here.image != there.image).any()


@pytest.mark.parametrize("side", ["ours", "floor"])
def test_a_gpu_is_given_what_a_cpu_can_do(side: str) -> None:
    """With entropy, several frames at once."""
    picture = replace(gpu_pictures()[0], device="cpu", batches=(1, 2), frames=2)
    one, two = model_loop.main(side, picture)
    assert one.p50_ms > 0
    assert two.run.frames_per_sec > 0


def test_pipeline() -> None:
    p50, p99, answered = check(bench_pipeline(frames=4, repeats=1))
    assert p50.ours.median <= p99.ours.median
    assert p50.floor.median <= p99.floor.median
    assert p50.target is not None
    assert p50.is_met == (p50.ratio <= 2)
    assert answered.floor.median == 100


def test_recorder() -> None:
    (figure,) = check([bench_recorder(frames=64, repeats=1)])
    assert figure.target is not None
    assert figure.is_met == (figure.ratio >= 0.8)


def test_scaling() -> None:
    two, four = check(bench_scaling(frames=16, repeats=1))
    # A model that only sleeps is the same on every machine: nobody is quicker than it.
    assert two.floor.median < 2 * FRAMES_PER_SEC
    assert four.floor.median == 2 * two.floor.median


def test_a_profile_tells_where_the_time_goes() -> None:
    require(may_trace(), "the right to trace a process")
    busy = ["-c", "import json\nwhile True: json.dumps(list(range(10_000)))"]
    with process(busy) as worker, profiled({"busy": worker.pid}, frames=1) as profiles:
        time.sleep(1)
    (profile,) = profiles
    assert profile.shares[0].module == "json.encoder"
    assert sum(share.percent for share in profile.shares) == pytest.approx(100)
    assert 0.1e6 < profile.cpu_micros_per_frame < 2e6
    assert "| json.encoder |" in profile_told(profiles)


def may_trace() -> bool:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return os.geteuid() == 0 or not scope.exists() or scope.read_text().strip() == "0"


def test_each_worker_tells_where_its_time_goes() -> None:
    require(may_trace(), "the right to trace a process")
    recorder, reconstructor, sampler = profile_stages(frames=64)
    assert (recorder.process, sampler.process) == ("recorder", "sampler")
    assert "sgaps.model.attention" in {share.module for share in reconstructor.shares}


def test_a_helper_and_a_wait_are_no_place_of_work() -> None:
    work = "<module> (gateway/__main__.py:99);frame (sgaps/bus/__init__.py:3)"
    assert place_of(work) == ("sgaps.bus", "frame")
    assert place_of(f"{work};round (numpy/_core/fromnumeric.py:7);__init__ (<string>:2)") == (
        "sgaps.bus",
        "frame",
    )
    assert place_of(f"{work};EpollSelector.select (selectors.py:468)") is None


def test_the_way_of_a_frame_is_the_sum_of_its_legs() -> None:
    legs = result_of("sgaps_cli.bench.way", 4)
    *parts, whole = (leg["p50_ms"] for leg in legs)
    assert sum(parts) == pytest.approx(whole)
    assert min(parts[:-1]) > 0
