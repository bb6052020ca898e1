"""What `sgaps bench` prints, from counts so small that its figures mean nothing."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reconstructor.neural import CPU_BATCH, CPU_FRAMES_AT_ONCE
from reconstructor.worker import frame_input
from sgaps.recording import find_segments
from sgaps.settings import load_settings
from sgaps_cli.bench import client_loop, model_loop, training_loop
from sgaps_cli.bench.alternatives import SOURCE, bench_alternatives
from sgaps_cli.bench.bus import bench_bus
from sgaps_cli.bench.machine import this_machine
from sgaps_cli.bench.model import figures
from sgaps_cli.bench.pictures import REAL_TIME, cpu_pictures, gpu_pictures
from sgaps_cli.bench.pipeline import bench_pipeline
from sgaps_cli.bench.processes import process, result_of
from sgaps_cli.bench.profile import place_of, profiled
from sgaps_cli.bench.profile import told as profile_told
from sgaps_cli.bench.recorder import bench_recorder
from sgaps_cli.bench.report import (
    Figure,
    Line,
    Run,
    Spread,
    Target,
    Unmeasured,
    Used,
    throughput,
    told,
)
from sgaps_cli.bench.scaling import FRAMES_PER_SEC, bench_scaling
from sgaps_cli.bench.sessions import bench_sessions
from sgaps_cli.bench.sessions import told as sessions_told
from sgaps_cli.bench.stages import profile_stages
from sgaps_cli.bench.training import GAME, KEY, bench_training
from sgaps_cli.capture import capture_source
from tools import require
from trainer.augment import BatchShape
from trainer.dataset import ExampleOptions, Request

RUN = Run(frames_per_sec=30, cpu_secs_per_1000_frames=2, peak_memory_mib=80)
SLOWER = replace(RUN, frames_per_sec=20, cpu_secs_per_1000_frames=5, peak_memory_mib=90)
FLOOR = replace(RUN, frames_per_sec=50)


def figure_of(target: Target | None = None, *runs: Run) -> Figure:
    return throughput("part", runs or [RUN], [FLOOR], floor_is="a loop", target=target)


def used(figures: Sequence[Line]) -> list[Figure]:
    """The figures, of processes that were looked at."""
    found = [line for line in figures if isinstance(line, Figure)]
    assert all(figure.cpu_secs_per_1000_frames > 0 for figure in found)
    assert all(figure.peak_memory_mib > 10 for figure in found)
    return found


def test_a_figure_is_of_all_repetitions() -> None:
    figure = figure_of(None, RUN, SLOWER, replace(RUN, frames_per_sec=25))
    assert figure.ours == Spread(median=25, least=20, most=30)
    assert (figure.cpu_secs_per_1000_frames, figure.peak_memory_mib) == (2, 90)
    assert figure.ratio == 0.5


@pytest.mark.parametrize(
    ("target", "is_met", "told_as"),
    [
        (None, None, "none"),
        (Target(limit=0.6), True, "ratio ≥ 0.60"),
        (Target(limit=0.7), False, "ratio ≥ 0.70 **missed**"),
        (Target(limit=0.5, at_most=True), False, "ratio ≤ 0.50 **missed**"),
        (Target(limit=20, of_ratio=False), True, "≥ 20"),
        (Target(limit=2, of_ratio=False, at_most=True), False, "≤ 2 **missed**"),
    ],
)
def test_a_target_is_of_the_ratio_or_of_ours(
    target: Target | None, is_met: bool | None, told_as: str
) -> None:
    figure = figure_of(target)
    assert (figure.is_met, figure.row[4]) == (is_met, told_as)
    assert figure.fields["is_met"] is is_met


def test_what_several_figures_share_is_told_once() -> None:
    split = {
        "one": Used(cpu_secs_per_1000_frames=0.5, peak_memory_mib=30),
        "two": Used(cpu_secs_per_1000_frames=1.5, peak_memory_mib=50),
    }
    figure = replace(figure_of(Target(limit=0.7)), by_process=split)
    row = "part, frames/s | 30 (30 to 30) | 50 (50 to 50) | 0.60 | ratio ≥ 0.70 **missed** | 2 | 80"
    lines: list[Line] = [figure, figure, Unmeasured(name="GPU", why="none here")]
    assert told(lines).splitlines()[2:] == [
        f"| {row} |",
        f"| {row} |",
        "| GPU | not measured: none here |  |  |  |  |  |",
        "",
        "Floor: a loop.",
        "Ours, each, CPU s per 1,000 frames and peak MiB: one 0.5, 30; two 1.5, 50.",
    ]


def test_the_machine_is_told_where_a_container_hides_most_of_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    gpu = tmp_path / "driver/nvidia/gpus/0000:01:00.0/information"
    gpu.parent.mkdir(parents=True)
    gpu.write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 33\n")
    machine = this_machine(tmp_path)
    assert (machine.processor, machine.gpus) == ("Some CPU @ 2 GHz", ("NVIDIA H200",))
    assert re.search(
        r"^Some CPU @ 2 GHz, \d+ cores, [\d.]+ GiB, NVIDIA H200, Linux \S+, Python 3\.\S+, "
        r"torch 2\.\S+, \w+ server v=\d+\.\S+$",
        str(machine),
    )
    hidden = this_machine(tmp_path / "nothing")
    assert hidden.processor == platform.machine()
    assert hidden.gpus == ()


def test_alternatives() -> None:
    *lines, readback = bench_alternatives(frames=1, repeats=1)
    p50, *_, memory, client_cpu, sent = used(lines)
    assert list(p50.by_process) == ["gateway", "reconstructor", "sampler", "broker"]
    assert sum(part.peak_memory_mib for part in p50.by_process.values()) == p50.peak_memory_mib
    assert memory.ratio > 1  # four processes and a broker
    assert client_cpu.floor.median > 0
    assert sent.ours.median < 700
    assert isinstance(readback, Unmeasured)


def test_x264_sends_as_many_bytes_as_it_is_given() -> None:
    few, many = (client_loop.main(str(size), SOURCE, 60).bytes_per_frame for size in (300, 3000))
    assert few < 600
    assert many > 3 * few


def test_bus() -> None:
    assert len(used(bench_bus(frames=200, repeats=1))) == 3


def test_model() -> None:
    _, on_two_cores, *_ = cpu_pictures(frames=2)
    rate, p50, p99 = used(figures(on_two_cores, repeats=1))
    assert (rate.target, p50.target, p99.target) == (REAL_TIME, None, None)
    assert rate.ours.median == pytest.approx(1000 / p50.ours.median, rel=0.2)


def test_a_cpu_is_measured_as_it_serves() -> None:
    """As many threads as a replica has, and no more frames than a turn of its."""
    alone_and_full, on_two_cores, *others = cpu_pictures(frames=1)
    settings = load_settings(environment={})
    assert alone_and_full.batches == (CPU_BATCH, CPU_FRAMES_AT_ONCE)
    for picture in (alone_and_full, *others):
        assert picture.threads == settings.reconstructor.cpu_threads
        assert picture.throughput_target(1) is None
    assert (on_two_cores.threads, on_two_cores.batches) == (2, (1,))


def test_an_atlas_that_is_measured_is_looked_up() -> None:
    """What is not recalled costs nothing, and would be measured as quick."""
    *_, by_heart, _ = cpu_pictures(frames=1)
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
    assert two.frames_per_sec > 0


def test_pipeline() -> None:
    p50, p99, answered = used(bench_pipeline(frames=4, repeats=1))
    assert (str(p50.target), str(p99.target)) == ("ratio ≤ 2.00", "ratio ≤ 3.00")
    assert list(p50.by_process) == ["gateway", "reconstructor", "sampler"]
    assert answered.floor.median == 100


def test_recorder() -> None:
    (figure,) = used([bench_recorder(frames=64, repeats=1)])
    assert str(figure.target) == "ratio ≥ 0.80"


def test_scaling() -> None:
    (two,) = used(bench_scaling(frames=16, repeats=1, replicas=(1, 2)))
    # A model that only sleeps is the same on every machine: nobody is quicker than it.
    assert max(two.ours.median, two.floor.median) < 2 * FRAMES_PER_SEC
    assert list(two.by_process) == ["reconstructor 1", "reconstructor 2"]


def test_training() -> None:
    """What loads is counted beside what learns."""
    small = ["batch_size=1", "workers=1", "cpu_threads=1", "device=cpu"]
    settings = [f"training.{setting}" for setting in small]
    (figure,) = used([bench_training(steps=1, repeats=1, overrides=settings)])
    assert figure.name == "training, CPU, 1 thread, doom/my_way_home, batch 1, workers 1"
    assert list(figure.by_process) == ["training", "loader 1"]
    assert figure.floor.median > 0


def test_a_batch_that_stays_is_drawn_once(tmp_path: Path) -> None:
    capture_source(GAME, frames=4, sessions=1, out=tmp_path, key=KEY, width=None, seed=0)
    settings = load_settings(environment={})
    options = ExampleOptions.of(settings)
    dataset = training_loop.OneBatch(find_segments(tmp_path, KEY), options)
    batches = []
    for seed in range(5):
        (batch,) = dataset.batches(2, np.random.default_rng(seed), most_pixels=2**20)
        batches.append(batch.tolist())
    assert batches == [batches[0]] * 5
    first, _ = batches[0]
    wanted = [Request(index=first, shape=BatchShape(samples=500), epoch=n) for n in range(2)]
    assert dataset[wanted[0]] is dataset[wanted[1]]


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


def test_sessions() -> None:
    """A limit that nobody keeps ends each climb at its first step."""
    climbs = bench_sessions(gateways=2, first={"answered": 2, "accepted": 2}, p99_limit_ms=0)
    assert [climb.fields["limit"] for climb in climbs] == [0, 0]
    answered, accepted = (climb.steps for climb in climbs)
    everyone = {"broker", "gateway 1", "gateway 2", "reconstructor", "sampler", "players"}
    assert set(answered[0].cores) == everyone
    assert set(accepted[0].cores) == everyone - {"reconstructor", "sampler"}
    assert all(cores > 0 for step in (*answered, *accepted) for cores in step.cores.values())
    assert accepted[0].answers.answered_percent == 100
    assert sessions_told(climbs).count("(p99): 0 sessions.") == 2
