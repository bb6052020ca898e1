"""`sgaps recordings`: what is recorded, whether it is well, and mending what is not."""

from __future__ import annotations

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from sgaps.errors import RecordingError
from sgaps.locks import is_locked
from sgaps.recording import recover_parts
from sgaps.recording.disk import lock_recordings
from sgaps.recording.layout import BAD_SUFFIX, part_paths, sealed_paths
from sgaps_cli import tables
from sgaps_cli.recordings_folder import reading, recorded_sessions, sealed_segments
from sgaps_cli.recordings_repair import Repair, recovered, relative, repair_segment
from sgaps_cli.segment_check import Finding, SegmentReport, check_session

app = typer.Typer(help="List, verify and repair recordings.")

Root = Annotated[Path | None, typer.Option(help="Folder of recordings; default: as configured.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

WRITTEN = "being written"
ABANDONED = "left by a killed writer"
HOUR_SECS = 3600
DAY_SECS = 24 * HOUR_SECS
UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """What one session has on disk. Frames and keyframes are those of sealed segments."""

    key: str
    session: str
    segments: int
    frames: int
    keyframes: int
    size_bytes: int
    age_secs: float
    """Since its newest file was written to."""
    state: str


@app.command("list", epilog="Example: `sgaps recordings list --root data/recordings`")
def list_(root: Root = None, as_json: AsJson = False) -> None:
    """Every session with its segments and frames; exit status 1 if one is damaged or unreadable."""
    folder, sessions = recorded_sessions(root)
    rows = list(_rows(_watched(sessions, "reading"), folder))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        tables.show(_table(rows))
    raise typer.Exit(any("damaged" in row.state or row.state == UNREADABLE for row in rows))


@app.command(epilog="Example: `sgaps recordings verify --root data/recordings --json`")
def verify(root: Root = None, as_json: AsJson = False) -> None:
    """Read every frame of every sealed segment; exit status 1 if something is not well.

    What was set aside is named, and counts for neither.
    """
    folder, sessions = recorded_sessions(root)
    segments = frames = 0
    findings: list[Finding] = []
    aside: list[Path] = []
    for session in _watched(sessions, "verifying"):
        try:
            of_session, parts = _checked(session), _abandoned_parts(session)
        except RecordingError as error:
            findings.append(Finding(path=str(session), problem=str(error)))
            continue
        segments += len(of_session)
        frames += sum(len(report.frame_ids) for report in of_session)
        findings += [finding for report in of_session for finding in report.findings]
        findings += parts
        aside += _set_aside(session)
    told = [replace(finding, path=relative(finding.path, folder)) for finding in findings]
    if as_json:
        facts = {
            "segments": segments,
            "frames": frames,
            "findings": list(map(asdict, told)),
            "set_aside": [relative(path, folder) for path in aside],
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        for finding in told:
            typer.echo(f"{finding.path}: {finding.problem}")
        for path in aside:
            typer.echo(f"{relative(path, folder)}: set aside, and not looked into")
        typer.echo(f"{segments} segments, {frames} frames, {len(told)} problems")
    raise typer.Exit(bool(told))


@app.command(epilog="Example: `sgaps recordings repair --root data/recordings`")
def repair(root: Root = None, as_json: AsJson = False) -> None:
    """Recover what killed writers left; copy what is readable of damaged segments, set them aside.

    Nothing is deleted: what was damaged stays beside as `.bad`. A recorder that writes to the
    folder must be stopped before; what others are writing there is left alone.
    """
    folder, sessions = recorded_sessions(root)
    lock = lock_recordings(folder)
    try:
        repairs = [recovered(outcome, folder) for outcome in recover_parts(folder)]
        for session in _watched(sessions, "repairing"):
            repairs += _repair_session(session, folder)
    finally:
        os.close(lock)
    if as_json:
        typer.echo(json.dumps(list(map(asdict, repairs)), indent=2))
    else:
        for done in repairs:
            typer.echo(f"{done.path}: {done.what}")
        typer.echo(f"{len(repairs)} repairs" if repairs else "nothing to repair")
    raise typer.Exit(not all(done.well for done in repairs))


def _watched(sessions: list[Path], doing: str) -> Iterator[Path]:
    """The sessions, with a progress bar on stderr, where that is a terminal."""
    console = Console(stderr=True)
    return iter(track(sessions, doing, console=console, disable=not console.is_terminal))


def _rows(sessions: Iterable[Path], root: Path) -> Iterator[SessionRow]:
    for session in sessions:
        with suppress(FileNotFoundError):  # all of it was deleted meanwhile
            try:
                with reading(session):
                    row = _row(session, time.time())
            except RecordingError:  # `verify` says why
                row = _unreadable_row(session, root, time.time())
            yield row


def _row(session: Path, now_secs: float) -> SessionRow:
    """Raises FileNotFoundError where the session is gone."""
    files = _files(session)
    infos, damaged = sealed_segments(session)
    newest_secs = max((file.st_mtime for file in files), default=session.stat().st_mtime)
    return SessionRow(
        key=session.parent.name,
        session=session.name,
        segments=len(infos),
        frames=sum(info.frame_count for info in infos),
        keyframes=sum(info.keyframe_count for info in infos),
        size_bytes=sum(file.st_size for file in files),
        age_secs=max(0.0, now_secs - newest_secs),
        state=_state(session, damaged=damaged),
    )


def _unreadable_row(session: Path, root: Path, now_secs: float) -> SessionRow:
    """Without a session where it is the whole key."""
    key, *name = session.relative_to(root).parts
    return SessionRow(
        key=key,
        session="".join(name),
        segments=0,
        frames=0,
        keyframes=0,
        size_bytes=0,
        age_secs=max(0.0, now_secs - session.stat().st_mtime),
        state=UNREADABLE,
    )


def _files(folder: Path) -> list[os.stat_result]:
    """What the system tells of its files, without those that were sealed or deleted meanwhile."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found.append(path.stat())
    return [file for file in found if stat.S_ISREG(file.st_mode)]


def _state(session: Path, *, damaged: int) -> str:
    parts = Counter(map(_state_of, part_paths(session)))
    counts = {
        "damaged": damaged,
        WRITTEN: parts[WRITTEN],
        ABANDONED: parts[ABANDONED],
        "set aside": len(_set_aside(session)),
    }
    states = [f"{count} {what}" for what, count in counts.items() if count]
    return ", ".join(states) or "sealed"


def _set_aside(session: Path) -> list[Path]:
    return sorted(session.glob(f"*{BAD_SUFFIX}*"))


def _state_of(part: Path) -> str:
    """Nothing of a part that is none any more: its writer seals it before it lets go of it."""
    with suppress(FileNotFoundError):
        if is_locked(part):
            return WRITTEN
    return ABANDONED if part.exists() else ""


def _table(rows: list[SessionRow]) -> Table:
    table = Table("key", "session", "segments", "frames", "keyframes", "MB", "age", "state")
    for row in rows:
        counts = map(str, (row.segments, row.frames, row.keyframes))
        size = f"{row.size_bytes / 1e6:.1f}"
        # Folders may have any name: as it stands rich would read `[b]` in it as markup.
        table.add_row(*map(Text, (row.key, row.session, *counts, size, _age(row), row.state)))
    return table


def _age(row: SessionRow) -> str:
    if row.age_secs >= DAY_SECS:
        return f"{row.age_secs / DAY_SECS:.0f} d"
    if row.age_secs >= HOUR_SECS:
        return f"{row.age_secs / HOUR_SECS:.0f} h"
    return f"{row.age_secs:.0f} s"


def _checked(session: Path) -> list[SegmentReport]:
    """Raises RecordingError where the session itself cannot be read."""
    with reading(session):
        return check_session(sealed_paths(session))


def _abandoned_parts(session: Path) -> list[Finding]:
    """Raises RecordingError."""
    with reading(session):
        parts = [part for part in part_paths(session) if _state_of(part) == ABANDONED]
    problem = f"{ABANDONED}: sgaps recordings repair"
    return [Finding(path=str(part), problem=problem) for part in parts]


def _repair_session(session: Path, root: Path) -> list[Repair]:
    try:
        reports = _checked(session)
    except RecordingError as error:
        what = f"left as it is: {error}"
        return [Repair(path=relative(session, root), what=what, well=False)]
    known = {i for report in reports if not report.findings for i in report.frame_ids}
    return [repair_segment(report, known, root) for report in reports if report.findings]
