"""`sgaps play`: a game through a running system, with a live line and a summary."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from sgaps.ending import end_signals
from sgaps.errors import ErrorCode, ProtocolError, SgapsError, SourceError
from sgaps.protocol.ids import is_valid_id
from sgaps_cli.doctor.gateway import TOKEN_CURE
from sgaps_cli.tables import unbroken
from sgaps_client.player import PlayOptions, PlayStats, PlaySummary, play
from sgaps_client.sources import Source, checkpoint_key, is_game, open_source, path_of

RECENT_FRAMES = 100
MAX_SEED = 10**9
"""Well inside what every game takes, with room for the seeds of further sessions."""


def play_source(
    source_name: str,
    *,
    url: str,
    frames: int | None,
    key: str | None,
    width: int | None,
    seed: int | None,
    token: str | None,
    session_frames: int | None,
    wait_secs: float,
    as_json: bool,
) -> int:
    """Play and print the summary; the exit status is 1 if no frame was answered.

    Raises SgapsError, also where no session has begun within `wait_secs`.
    """
    console = unbroken(Console(stderr=as_json))
    require_no_seed_of_a_file(source_name, seed)
    options = PlayOptions(
        url=url,
        checkpoint_key=key_of(source_name, key),
        frames=frames,
        session_frames=session_frames,
        auth_token=token,
        wait_secs=wait_secs,
    )
    opened = (
        partial(open_anew, source_name, console, width=width)
        if seed is None
        else partial(open_source, source_name, width=width, seed=seed)
    )
    try:
        summary = asyncio.run(_play_until_interrupted(opened, options, console))
    except ProtocolError as error:
        if error.code != ErrorCode.UNAUTHORIZED:
            raise
        raise SgapsError(f"{error}; {TOKEN_CURE}") from error
    if as_json:
        print(json.dumps(asdict(summary), indent=2))
    else:
        console.print(_told(summary), highlight=False)
    return 0 if summary.answered else 1


def open_anew(source_name: str, console: Console, *, width: int | None = None) -> Source:
    """With a seed that nobody chose, so another one each time, which is told: of the same seed a
    game is the same play, and what is held out of training would be what was trained on.

    Raises SourceError.
    """
    seed = secrets.randbelow(MAX_SEED + 1)
    source = open_source(source_name, width=width, seed=seed)
    if is_game(source_name):
        console.print(f"seed      {seed}", highlight=False)
    return source


def require_no_seed_of_a_file(source_name: str, seed: int | None) -> None:
    """Raises SourceError."""
    if seed is not None and not is_game(source_name):
        raise SourceError(f"{source_name} is the same with every seed: leave out --seed")


def key_of(
    source_name: str, key: str | None, *, cure: str = "give one with --key, or rename it"
) -> str:
    """The checkpoint key: as given, else from a game's name, or from a file's without its folder
    and suffix. Raises SgapsError.
    """
    name = source_name if is_game(source_name) else _file_name(source_name)
    chosen = key or checkpoint_key(name).strip("-")
    # Of names in other scripts nothing is left, and all of them would share one checkpoint.
    if not is_valid_id(chosen) or not chosen.strip("-_"):
        raise SgapsError(
            f"{key or source_name!r} is no checkpoint key; {cure}: letters, digits, _ and -, "
            "at most 64"
        )
    return chosen


def _file_name(path: str) -> str:
    """Without its suffix; of a folder, also of `.`, the whole.

    A link is called what it is called: where it leads may be named after a hash.
    """
    absolute = Path(os.path.abspath(path_of(path)))  # noqa: PTH100 - absolute() leaves `..` there
    return absolute.name if absolute.is_dir() else absolute.stem


async def _play_until_interrupted(
    opened: Callable[[], Source], options: PlayOptions, console: Console
) -> PlaySummary:
    stop = asyncio.Event()
    for number in end_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await play_with_line(opened(), options, stop=stop, console=console)


async def play_with_line(
    source: Source, options: PlayOptions, *, stop: asyncio.Event, console: Console
) -> PlaySummary:
    """Play and keep one line of figures up to date; the source is closed at the end."""
    try:
        with Live(Text("connecting…"), console=console, refresh_per_second=2) as live:
            return await play(source, options, stop=stop, report=_updating(live))
    finally:
        source.close()
        if not console.is_terminal:
            console.line()  # a Live ends its last line on terminals only


def _updating(live: Live) -> Callable[[PlayStats], None]:
    previous = [0]

    def update(stats: PlayStats) -> None:
        frames_per_sec, previous[0] = stats.answered - previous[0], stats.answered
        live.update(Text(_line(stats, frames_per_sec)))

    return update


def _line(stats: PlayStats, frames_per_sec: int) -> str:
    """Frame rate, latency, PSNR, bytes per frame, model version."""
    recent_ms = stats.latencies_ms[-RECENT_FRAMES:]
    latency = f"{np.median(recent_ms):.0f} ms" if recent_ms else "–"
    psnr = f"{np.mean(stats.psnrs_db[-5:]):.1f} dB" if stats.psnrs_db else "–"
    return (
        f"{frames_per_sec:3d} frames/s answered · {latency} end to end · PSNR {psnr} · "
        f"{stats.bytes_per_frame / 1000:.1f} kB per frame up · "
        f"{stats.answered}/{stats.sent} answered · model {stats.model_version}"
    )


def _told(summary: PlaySummary) -> str:
    latency = (
        f"p50 {summary.latency_p50_ms:.0f} ms, p99 {summary.latency_p99_ms:.0f} ms"
        if summary.latency_p50_ms is not None and summary.latency_p99_ms is not None
        else "unknown"
    )
    psnr = "unknown" if summary.psnr_db is None else f"{summary.psnr_db:.1f} dB"
    return (
        f"sent {summary.sent}, accepted {summary.accepted}, answered {summary.answered}, "
        f"recorded {summary.recorded}, lost with a connection {summary.lost}, "
        f"dropped on a slow network {summary.dropped}\n"
        f"latency {latency}; PSNR of the newest reconstruction {psnr}; "
        f"model {summary.model_version}\n"
        f"{summary.bytes_up} bytes up, {summary.bytes_down} bytes down in "
        f"{len(summary.sessions)} sessions"
    )
