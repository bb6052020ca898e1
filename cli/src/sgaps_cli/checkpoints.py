"""`sgaps checkpoints`: what is published, and which version of it serves.

Running reconstructors look into the folder every few seconds: a promotion needs no restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.table import Table

from sgaps.checkpoints import DEFAULT_KEY, POINTER_NAME, CheckpointDirectory, version_number
from sgaps.errors import (
    CheckpointError,
    CheckpointNotFound,
    CheckpointRejected,
    CheckpointUnreadable,
)
from sgaps.manifest import Manifest
from sgaps.settings import load_settings
from sgaps_cli import tables

app = typer.Typer(help="List, show, compare, promote, roll back and prune checkpoints.")

Root = Annotated[Path | None, typer.Option(help="Folder of checkpoints; default: as configured.")]
KeyName = Annotated[str, typer.Argument(help="Checkpoint key, such as doom-my_way_home")]
Version = Annotated[str, typer.Argument(help="Version, such as v0002-1a2b3c4d")]

UNREADABLE = "unreadable"
SESSIONS = ("data.train_sessions", "data.val_sessions")


def _directory(root: Path | None) -> CheckpointDirectory:
    return CheckpointDirectory(root or load_settings().data.checkpoints_dir)


@app.command("list", epilog="Example: `sgaps checkpoints list --root data/checkpoints`")
def list_(root: Root = None) -> None:
    """Every version of every key; the one in force is marked.

    The exit status is 1 where something is unreadable.
    """
    directory = _directory(root)
    table = Table("key", "version", "serves", "held-out PSNR", "before", "frames", "created")
    keys = sorted({*directory.all_keys(), *directory.published_keys()})
    rows = [row for key in keys for row in _rows(directory, key)]
    if not rows:
        shipped = load_settings().data.shipped_dir
        there = f"; the shipped ones are in {shipped}: --root" if shipped.is_dir() else ""
        raise CheckpointNotFound(
            f"no checkpoints in {directory.root.absolute()}: cd to where sgaps up runs, name "
            f"another with --root, or make one: sgaps train{there}"
        )
    for row in rows:
        table.add_row(*row)
    tables.show(table)
    raise typer.Exit(any(cell.startswith(UNREADABLE) for row in rows for cell in row))


@app.command(epilog="Example: `sgaps checkpoints show doom-my_way_home`")
def show(
    key: KeyName,
    version: Annotated[str | None, typer.Argument(help="Default: the one in force.")] = None,
    root: Root = None,
) -> None:
    """The manifest: data, settings, metrics and parent of a checkpoint, as JSON."""
    directory = _directory(root)
    manifest = directory.manifest(key, version or _current(directory, key))
    typer.echo(manifest.model_dump_json(indent=2))


@app.command(epilog="Example: `sgaps checkpoints compare pong v0001-1a2b3c4d v0002-5e6f7a8b`")
def compare(key: KeyName, one: Version, other: Version, root: Root = None) -> None:
    """What two versions have different. To measure both on the same frames: sgaps evaluate."""
    directory = _directory(root)
    table = Table("", one, other)
    rows = (dict(_flat(directory.manifest(key, version))) for version in (one, other))
    left, right = rows
    for name in sorted(left.keys() | right.keys()):
        ours, theirs = left.get(name, ""), right.get(name, "")
        if ours != theirs:
            table.add_row(name, _shown(name, ours, theirs), _shown(name, theirs, ours))
    tables.show(table)


@app.command(epilog="Example: `sgaps checkpoints promote doom-my_way_home v0002-1a2b3c4d`")
def promote(key: KeyName, version: Version, root: Root = None) -> None:
    """Let a version serve its key."""
    directory = _directory(root)
    before = _served(directory, key)
    _promote(directory, key, version)
    is_way_back = before not in {None, version}
    back = f"; to go back: sgaps checkpoints promote {key} {before}" if is_way_back else ""
    typer.echo(f"{key} is served by {version}{back}")


@app.command(epilog="Example: `sgaps checkpoints rollback doom-my_way_home`")
def rollback(key: KeyName, root: Root = None) -> None:
    """Let the version that the one in force was to replace when it was trained serve again.

    Where nobody knows which, or it is deleted: the one with the next lower number.
    """
    directory = _directory(root)
    current = _current(directory, key)
    parent = _parent(directory, key, current)
    version = parent or _number_before(directory, key, current)
    _promote(directory, key, version)
    why = (
        f"which {current} was trained to replace"
        if parent
        else f"the number before {current}: what it was to replace is deleted or not known"
    )
    typer.echo(f"{key} is served by {version}, {why}")


@app.command(epilog="Example: `sgaps checkpoints prune doom-my_way_home --keep 3`")
def prune(
    key: KeyName,
    keep: Annotated[int, typer.Option(min=1, help="Newest versions to keep.")] = 3,
    root: Root = None,
) -> None:
    """Delete old versions; never the one in force, nor its parent."""
    directory = _directory(root)
    _current(directory, key)  # which tells what keys there are, where this is none
    for version in directory.prune(key, keep):
        typer.echo(f"deleted {key}/{version}")


def _rows(directory: CheckpointDirectory, key: str) -> list[tuple[str, ...]]:
    """The versions of a key; why they cannot be read, where nobody can say which one serves."""
    try:
        current, versions = directory.current_version(key), directory.versions(key)
    except CheckpointError as error:
        why = str(error).removeprefix(f"{key}: ")
        return [(key, f"{UNREADABLE}: {why}")]
    return [
        (key, version, "●" if version == current else "", *_told(directory, key, version))
        for version in versions
    ]


def _told(directory: CheckpointDirectory, key: str, version: str) -> tuple[str, ...]:
    try:
        manifest = directory.manifest(key, version)
    except CheckpointError:
        return (UNREADABLE,)
    metrics = (manifest.metrics.val_psnr_db, manifest.metrics.champion_psnr_db)
    after, before = (f"{psnr_db:.2f} dB" for psnr_db in metrics)
    return after, before, str(manifest.data.frames), manifest.created_at


def _current(directory: CheckpointDirectory, key: str) -> str:
    version = directory.current_version(key)
    if version is None:
        if versions := directory.versions(key):
            raise CheckpointNotFound(
                f"no version of {key} serves; promote one: {', '.join(versions)}"
            )
        known = ", ".join(directory.all_keys()) or "none"
        raise CheckpointNotFound(f"no checkpoint of {key!r} in {directory.root}; keys: {known}")
    return version


def _served(directory: CheckpointDirectory, key: str) -> str | None:
    """None where nothing serves, or nobody can say what does."""
    try:
        return directory.current_version(key)
    except CheckpointError:
        return None


def _promote(directory: CheckpointDirectory, key: str, version: str) -> None:
    """Raises CheckpointError, for torn files too, which a reconstructor would refuse."""
    manifest = directory.usable(key, version)
    try:
        directory.weights_of(manifest)
        directory.atlas_of(manifest)
    except CheckpointUnreadable:  # it may be as good as ever
        raise
    except CheckpointRejected as error:
        raise CheckpointRejected(
            f"{error}; promote another version: sgaps checkpoints list"
        ) from error
    directory.promote(key, version)


def _parent(directory: CheckpointDirectory, key: str, version: str) -> str | None:
    """What a version was to replace, if its manifest can tell and it is still there."""
    try:
        parent = directory.manifest(key, version).parent
    except CheckpointError:  # a torn one is what one goes back from
        return None
    return parent if parent in directory.versions(key) else None


def _number_before(directory: CheckpointDirectory, key: str, version: str) -> str:
    """Raises CheckpointNotFound."""
    number = version_number(version)
    earlier = [v for v in directory.versions(key) if version_number(v) < number]
    if not earlier:
        pointer = directory.key_dir(key) / POINTER_NAME
        raise CheckpointNotFound(
            f"{key}: there is nothing before {version}; delete {pointer}, and "
            f"{_served_without(directory, key)} serves"
        )
    return earlier[-1]


def _served_without(directory: CheckpointDirectory, key: str) -> str:
    """What a reconstructor gives a key that has nothing of one's own."""
    shipped = CheckpointDirectory(load_settings().data.shipped_dir)
    if shipped.root.resolve() != directory.root.resolve() and (version := _served(shipped, key)):
        return f"the shipped {version}"
    if key == DEFAULT_KEY:  # one that runs keeps what it has
        return "from the next start on an untrained model"
    return "the general checkpoint"


def _flat(manifest: Manifest) -> Iterator[tuple[str, JsonValue]]:
    """`group.key` and value of everything in it."""
    for name, value in manifest.model_dump(mode="json").items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", detail) for inner, detail in value.items())
        else:
            yield name, value


def _shown(name: str, value: JsonValue, other: JsonValue) -> str:
    """A value beside another; of sessions, which may be thousands, only how many."""
    if name in SESSIONS and isinstance(value, list) and isinstance(other, list):
        lacking = sum(session not in other for session in value)
        return f"{len(value)}, of which {lacking} are not in the other"
    return str(value)
