"""`sgaps bench …` on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from sgaps_cli.bench.gateway import bench_gateway
from sgaps_cli.bench.report import told

app = typer.Typer(help="Our speed as a ratio to a floor measured in the same run.")


@app.callback()
def bench() -> None:
    """More benches will stand beside the first one."""


@app.command(epilog="Example: `sgaps bench gateway --frames 4000 --repeats 3 --json`")
def gateway(
    frames: Annotated[int, typer.Option(min=8, help="Frames of each repetition.")] = 8000,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each server.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Frames per second that one gateway process takes in, in both forms of the protocol."""
    figures = bench_gateway(frames=frames, repeats=repeats)
    typer.echo(json.dumps([asdict(f) for f in figures], indent=2) if as_json else told(figures))
