"""What must be true after every fault, whatever it was."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faults.load import Load, Player, values_of
from faults.rig import Rig
from sgaps.errors import RecordingError
from sgaps.recording import SegmentReader

FRESH_TIMEOUT_SECS = 10.0
PROBLEMS = (
    *("lost", "falsely_recorded", "duplicated", "altered", "unreadable", "astray", "stuck"),
    *("unbalanced", "miscounted", "unfinished", "dead"),
)


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """What the sealed segments hold."""

    frames: dict[str, Counter[int]]
    """session id → how often each frame id is there."""
    altered: int
    """Frames that are not what was sent."""
    unreadable: int
    """Files that do not open, or that nobody sealed."""

    def of(self, player: Player) -> set[int]:
        """Frame ids of a player."""
        return {f for session in player.session_ids for f in self.frames.get(session, ())}

    @property
    def count(self) -> int:
        return sum(frames.total() for frames in self.frames.values())


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All but the counts of accepted and recorded frames must be 0."""

    accepted: int
    recorded: int
    lost_ids: frozenset[int]
    """Accepted frames in no segment."""
    falsely_recorded: int
    """Frames that a client was told were on disk, and are not."""
    duplicated: int
    altered: int
    unreadable: int
    astray: int
    """Answers that belong to nobody or go backwards."""
    stuck: int
    """1 if a session had no fresh answer at the end."""
    unbalanced: int
    """In flight by the ledger although nothing is."""
    miscounted: int
    """Delivered by the ledger, and not counted so by the players, or the other way round."""
    unfinished: int
    """Entries not read or not acknowledged."""
    dead: int
    """Entries of sgaps:dead beyond those that were expected."""
    ledger: dict[str, int]

    @property
    def lost(self) -> int:
        return len(self.lost_ids)

    def problems(self, *, except_for: Collection[str] = ()) -> dict[str, int]:
        """What is wrong, but for what the scenario judges by itself."""
        counts = {name: getattr(self, name) for name in PROBLEMS if name not in except_for}
        return {name: count for name, count in counts.items() if count}


async def audited(
    rig: Rig, load: Load, *, earlier: Load | None = None, expected_dead: int = 0
) -> Audit:
    """End the load, let everything come to rest, end the recorder, and look at what there is.

    `earlier` is a load of the same rig that ended before.
    """
    fresh_secs = await load.until_fresh(time.monotonic(), timeout_secs=FRESH_TIMEOUT_SECS)
    await load.rest()
    ledger, pending = await rig.at_rest()
    dead = await rig.dead()
    await rig.services["recorder"].end()
    disk = await asyncio.to_thread(on_disk, rig.recordings_dir)
    load = Load([*load.players, *(earlier.players if earlier else ())])
    return Audit(
        accepted=load.accepted_count,
        recorded=disk.count,
        lost_ids=frozenset(f for player in load.players for f in lost_frames(player, disk)),
        falsely_recorded=sum(len(falsely_recorded(player, disk)) for player in load.players),
        duplicated=disk.count - sum(map(len, disk.frames.values())),
        altered=disk.altered,
        unreadable=disk.unreadable,
        astray=sum(len(player.astray) for player in load.players),
        stuck=int(fresh_secs == math.inf),
        unbalanced=ledger["in_flight"],
        miscounted=ledger.get("delivered", 0) - load.answer_count,
        unfinished=sum(pending.values()),
        dead=dead - expected_dead,
        ledger=ledger,
    )


def lost_frames(player: Player, disk: OnDisk) -> set[int]:
    """Accepted frames of a player that are not on disk; of a window as many as are too few."""
    there = disk.of(player)
    lost = player.books.certain - there
    for window in player.books.windows:
        missing = [frame_id for frame_id in window.frame_ids if frame_id not in there]
        lost.update(missing[window.refused :])
    return lost


def falsely_recorded(player: Player, disk: OnDisk) -> set[int]:
    return {frame_id for _, frame_id in player.recorded if frame_id >= 0} - disk.of(player)


def on_disk(root: Path) -> OnDisk:
    """Read every frame of every file."""
    frames: dict[str, Counter[int]] = {}
    altered = unreadable = 0
    for path in sorted(root.rglob("*.h5*")):
        try:
            with SegmentReader(path) as reader:
                session = frames.setdefault(path.parent.name, Counter())
                session.update(int(frame_id) for frame_id in reader.frame_ids)
                altered += sum(_is_altered(reader, position) for position in range(len(reader)))
        except RecordingError:
            unreadable += 1
    return OnDisk(frames=frames, altered=altered, unreadable=unreadable)


def _is_altered(reader: SegmentReader, position: int) -> bool:
    frame = reader.read(position)
    values = np.round(frame.samples[:, 2] * 255).astype(np.uint8)
    return not np.array_equal(values, values_of(frame.frame_id, len(values)))
