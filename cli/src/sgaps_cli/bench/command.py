"""`sgaps bench …` on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from sgaps_cli.bench.gateway import bench_gateway
from sgaps_cli.bench.report import told
from sgaps_cli.bench.stages import bench_stages
from sgaps_cli.bench.stages import told as told_costs

app = typer.Typer(help="Our speed as a ratio to a floor measured in the same run.")


@app.callback()
def bench() -> None:
    """Speed of one service, and costs of them all."""


@app.command(epilog="Example: `sgaps bench gateway --frames 4000 --repeats 3 --json`")
def gateway(
    frames: Annotated[int, typer.Option(min=8, help="Frames of each repetition.")] = 8000,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each server.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Frames per second that one gateway process takes in, in both forms of the protocol."""
    figures = bench_gateway(frames=frames, repeats=repeats)
    typer.echo(json.dumps([asdict(f) for f in figures], indent=2) if as_json else told(figures))


@app.command(epilog="Example: `sgaps bench stages --frames 512 --json`")
def stages(
    frames: Annotated[int, typer.Option(min=16, help="Frames that each service does.")] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Processor seconds, broker commands and bytes that a frame costs each service."""
    costs = bench_stages(frames=frames)
    typer.echo(json.dumps([asdict(c) for c in costs], indent=2) if as_json else told_costs(costs))
