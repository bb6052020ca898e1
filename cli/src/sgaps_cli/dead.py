"""`sgaps dead`: the entries that failed or killed their consumers, and why."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from sgaps.bus import Bus, Entry, RedisBus, next_id, published_at_secs
from sgaps.errors import BusUnavailable, MessageError
from sgaps.messages import DeadLetter, FrameAccepted, FrameReconstructed
from sgaps.settings import load_settings, override
from sgaps_cli import tables
from sgaps_cli.broker import REDIS_URL_ENV
from sgaps_cli.data_folder import running_in

MOST = 10_000
NEWEST = 200
"""To lay a table out takes milliseconds a row."""
KINDS = {kind.STREAM: kind for kind in (FrameAccepted, FrameReconstructed)}


@dataclass(frozen=True, kw_only=True)
class Dead:
    """One dead letter, as people read it."""

    buried_at: str
    group: str
    entry_id: str
    deliveries: int
    session_id: str
    frame_id: int | None
    size_bytes: int
    reason: str


def list_dead(
    url: str | None, data_dir: Path, *, as_json: bool, show_all: bool, remove: bool
) -> int:
    """Print what is in sgaps:dead, oldest first; then remove it if that is wished.

    In a table only the newest are shown, unless all are wished, or are to be removed.

    Of the broker at `url`, else of REDIS_URL, else of the `sgaps up` in the data folder, else as
    configured. Raises BusError, SettingsError.
    """
    running = None if url or os.environ.get(REDIS_URL_ENV) else running_in(data_dir)
    url = running.broker_url if running else url
    settings = load_settings([override("bus.url", url)] if url else []).bus
    try:
        letters = asyncio.run(_letters(RedisBus(settings)))
    except BusUnavailable as error:
        raise BusUnavailable(f"{error} Name the broker with --redis, or in REDIS_URL.") from error
    if as_json:
        typer.echo(json.dumps([asdict(_told(entry)) for entry in letters], indent=2))
    else:
        _print(letters, newest=len(letters) if show_all or remove else NEWEST)
    if remove and letters:  # and none that came meanwhile
        asyncio.run(_remove(RedisBus(settings), letters[-1].entry_id))
    return 0


def _print(letters: Sequence[Entry], *, newest: int) -> None:
    if not letters:
        typer.echo("no dead letters: every entry was done")
        return
    table = Table(*Dead.__annotations__)
    for letter in letters[-newest:]:
        cells = ("" if value is None else str(value) for value in asdict(_told(letter)).values())
        table.add_row(*map(Text, cells))
    tables.show(table)
    if len(letters) > newest:
        typer.echo(f"the newest {newest} of {len(letters)}; all of them: sgaps dead --all")


async def _letters(bus: Bus) -> list[Entry]:
    try:
        return await bus.tail(DeadLetter.STREAM, bus.START, count=MOST, block_secs=0)
    finally:
        await bus.close()


async def _remove(bus: Bus, newest_id: str) -> None:
    try:
        await bus.trim(DeadLetter.STREAM, next_id(newest_id))
    finally:
        await bus.close()


def _told(entry: Entry) -> Dead:
    try:
        letter = DeadLetter.decode(entry.data)
    except MessageError as error:  # of another release; it must not hide the others
        letter = DeadLetter(
            source_stream="",
            group="",
            entry_id="",
            deliveries=0,
            reason=f"cannot be read: {error}",
            data=entry.data,
        )
    session_id, frame_id = _whose(letter)
    buried_at = datetime.fromtimestamp(published_at_secs(entry.entry_id), UTC)
    return Dead(
        buried_at=buried_at.isoformat(timespec="seconds"),
        group=letter.group,
        entry_id=letter.entry_id,
        deliveries=letter.deliveries,
        session_id=session_id,
        frame_id=frame_id,
        size_bytes=len(letter.data),
        reason=letter.reason,
    )


def _whose(letter: DeadLetter) -> tuple[str, int | None]:
    kind = KINDS.get(letter.source_stream)
    try:
        message = kind.decode(letter.data) if kind else None
    except MessageError:
        message = None
    return (message.session_id, message.frame_id) if message else ("", None)
