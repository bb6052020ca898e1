"""`sgaps bench …` on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from typing import Annotated

import typer
from rich.console import Console

from sgaps_cli.bench import profile as profiles
from sgaps_cli.bench.alternatives import bench_alternatives
from sgaps_cli.bench.bus import bench_bus
from sgaps_cli.bench.gateway import bench_gateway, profile_gateway
from sgaps_cli.bench.machine import this_machine
from sgaps_cli.bench.model import bench_model
from sgaps_cli.bench.pipeline import bench_pipeline
from sgaps_cli.bench.processes import result_of
from sgaps_cli.bench.recorder import bench_recorder
from sgaps_cli.bench.report import Line, told
from sgaps_cli.bench.scaling import bench_scaling
from sgaps_cli.bench.sessions import bench_sessions
from sgaps_cli.bench.sessions import told as told_sessions
from sgaps_cli.bench.soak import bench_soak
from sgaps_cli.bench.soak import told as told_soak
from sgaps_cli.bench.stages import bench_stages, profile_stages
from sgaps_cli.bench.stages import told as told_costs
from sgaps_cli.bench.training import bench_training

app = typer.Typer(help="Our speed as a ratio to a floor measured in the same run.")

Repeats = Annotated[int, typer.Option(min=1, help="Repetitions of ours and of the floor.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsProfile = Annotated[
    bool, typer.Option("--profile", help="Print where its processor time goes instead.")
]


def _print(lines: Sequence[Line], *, json: bool) -> None:
    _print_with_machine(told(lines), [line.fields for line in lines], json=json)


def _print_profile(found: Sequence[profiles.Profile], *, json: bool) -> None:
    _print_with_machine(profiles.told(found), [asdict(profile) for profile in found], json=json)


def _print_with_machine(table: str, measured: Sequence[object], *, json: bool) -> None:
    machine = this_machine()
    if json:
        typer.echo(dumps({"machine": asdict(machine), "measured": measured}, indent=2))
    else:
        typer.echo(f"{table}\n\nMachine: {machine}.")


@app.callback()
def bench() -> None:
    """Speed of each part and of the whole, and what a frame costs."""


@app.command(epilog="Example: `sgaps bench gateway --frames 4000 --repeats 3 --json`")
def gateway(
    frames: Annotated[int, typer.Option(min=8, help="Frames of each repetition.")] = 8000,
    repeats: Repeats = 3,
    profile: AsProfile = False,
    json: AsJson = False,
) -> None:
    """Frames per second that one gateway process takes in, in both forms of the protocol."""
    if profile:
        _print_profile(profile_gateway(frames=frames), json=json)
        return
    _print(bench_gateway(frames=frames, repeats=repeats), json=json)


@app.command(epilog="Example: `sgaps bench bus --frames 4000 --repeats 3 --json`")
def bus(
    frames: Annotated[int, typer.Option(min=16, help="Frames of each repetition.")] = 8000,
    repeats: Repeats = 3,
    json: AsJson = False,
) -> None:
    """Frames per second written, read and acknowledged through the broker by one process."""
    _print(bench_bus(frames=frames, repeats=repeats), json=json)


@app.command(epilog="Example: `sgaps bench model --frames 64 --repeats 4 --json`")
def model(
    frames: Annotated[int, typer.Option(min=1, help="Frames of each batch size.")] = 32,
    repeats: Repeats = 2,
    json: AsJson = False,
) -> None:
    """Frames per second of the shipped checkpoint, next coordinates included, on CPU and GPU."""
    _print(bench_model(frames=frames, repeats=repeats), json=json)


@app.command(epilog="Example: `sgaps bench pipeline --frames 100 --repeats 3 --json`")
def pipeline(
    frames: Annotated[int, typer.Option(min=1, help="Frames of each of eight players.")] = 100,
    repeats: Repeats = 3,
    json: AsJson = False,
) -> None:
    """Milliseconds from a frame to its coordinates, with a model that takes no time."""
    _print(bench_pipeline(frames=frames, repeats=repeats), json=json)


@app.command(epilog="Example: `sgaps bench recorder --frames 4096 --repeats 3 --json`")
def recorder(
    frames: Annotated[int, typer.Option(min=16, help="Frames of each repetition.")] = 8192,
    repeats: Repeats = 3,
    json: AsJson = False,
) -> None:
    """Frames per second that one recorder process brings to disk, fsynced and acknowledged."""
    _print([bench_recorder(frames=frames, repeats=repeats)], json=json)


@app.command(epilog="Example: `sgaps bench scaling --frames 400 --repeats 3 --json`")
def scaling(
    frames: Annotated[int, typer.Option(min=16, help="Frames of each replica.")] = 400,
    repeats: Repeats = 2,
    json: AsJson = False,
) -> None:
    """Frames per second of 2 and 4 reconstructors beside one, with a model of a fixed time."""
    _print(bench_scaling(frames=frames, repeats=repeats), json=json)


@app.command(epilog="Example: `sgaps bench alternatives --frames 30 --repeats 3 --json`")
def alternatives(
    frames: Annotated[int, typer.Option(min=1, help="Frames of each of eight players.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each side.")] = 1,
    json: AsJson = False,
) -> None:
    """A single process without a broker, and x264 on the client, beside ours."""
    _print(bench_alternatives(frames=frames, repeats=repeats), json=json)


@app.command(epilog="Example: `sgaps bench sessions --gateways 2 --json`")
def sessions(
    gateways: Annotated[int, typer.Option(min=1, help="Gateway processes.")] = 1,
    json: AsJson = False,
) -> None:
    """How many players are served in time, and what gives first."""
    climbs = bench_sessions(gateways=gateways)
    _print_with_machine(told_sessions(climbs), [climb.fields for climb in climbs], json=json)


@app.command(epilog="Example: `sgaps bench soak --minutes 180 --json`")
def soak(
    minutes: Annotated[
        float,
        typer.Option(min=0.1, help="How long; under 45 what is remembered is still filling."),
    ] = 60,
    real_model: Annotated[
        bool, typer.Option("--real-model", help="The shipped checkpoint, not a constant.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Whether memory, and what a frame costs, stay what they were while players come and go."""
    found = bench_soak(minutes=minutes, real_model=real_model)
    _print_with_machine(told_soak(found), [found.fields], json=json)


@app.command(epilog="Example: `sgaps bench stages --frames 512 --json`")
def stages(
    frames: Annotated[int, typer.Option(min=16, help="Frames that each service does.")] = 1024,
    profile: AsProfile = False,
    json: AsJson = False,
) -> None:
    """Processor seconds, broker commands and bytes that a frame costs each service, its memory."""
    if profile:
        _print_profile(profile_stages(frames=frames), json=json)
        return
    costs = bench_stages(frames=frames)
    _print_with_machine(told_costs(costs), [asdict(cost) for cost in costs], json=json)


@app.command(epilog="Example: `sgaps bench training --set training.batch_size=8 --steps 4 --json`")
def training(
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each repetition.")] = 6,
    repeats: Repeats = 3,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Setting to override, key=value.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Frames per second that a training run learns from, on a GPU where there is one."""
    figure = bench_training(steps=steps, repeats=repeats, overrides=overrides or ())
    _print([figure], json=json)


@app.command(epilog="Example: `sgaps bench way --frames 100 --json`")
def way(
    frames: Annotated[int, typer.Option(min=1, help="Frames of each of eight players.")] = 100,
    json: AsJson = False,
) -> None:
    """Milliseconds of each piece of a frame's way, with a model that takes no time."""
    with Console(stderr=True).status(f"eight players, {frames} frames each"):
        legs = result_of("sgaps_cli.bench.way", frames)
    rows = [f"| {leg['name']} | {leg['p50_ms']:.2f} |" for leg in legs]
    table = "\n".join(["| on the way of a frame | median, ms |", "|---|---|", *rows])
    _print_with_machine(table, legs, json=json)
