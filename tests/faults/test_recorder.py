"""The recorder dies at any moment; what it acknowledged is on disk, once."""

from __future__ import annotations

import asyncio
import random
import time

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Load, Pace
from faults.report import FaultTable


async def a_while(load: Load, rng: random.Random) -> None:
    """Until some moment of its start, or of its work."""
    if rng.random() < 0.5:
        await asyncio.sleep(rng.uniform(0.2, 2.5))
    else:
        await load.until_recorded(time.monotonic(), timeout_secs=2)
        await asyncio.sleep(rng.uniform(0.0, 0.5))


async def test_recorder_killed_at_random(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    kills, frames = form(6, 200), form(1_500, 100_000)
    rng = random.Random(1)
    async with (
        start_rig() as rig,
        rig.playing(sessions=form(4, 10), pace=Pace(frames_per_sec=50)) as load,
    ):
        for _ in range(kills):
            await a_while(load, rng)
            await rig.kill("recorder")
        await load.until_accepted(frames)
        audit = await audited(rig, load)
    faults.add(
        "recorder killed (-9) at random",
        times=f"{kills} kills, {audit.accepted} frames",
        figure=f"{audit.lost} lost, {audit.duplicated} duplicated, {audit.unreadable} bad files",
        target="0 lost, 0 duplicated, every file opens",
        met=not audit.problems(),
        why=audit,
    )
