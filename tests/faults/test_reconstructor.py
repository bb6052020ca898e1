"""Reconstructors die, freeze, or are given what kills them."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial
from typing import Any

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.fixed_model import POISON
from faults.load import Pace
from faults.report import FaultTable
from faults.rig import MIN_IDLE_SECS, Rig
from reconstructor.worker import GROUP
from sgaps.messages import FrameAccepted
from waiting import eventually

VICTIM = "reconstructor-2"
SLOW_MODEL = ("--secs", "0.05")
"""So that it has something in hand when it is hurt."""


async def in_hand(rig: Rig) -> set[bytes]:
    """Entries that the victim was given and has not finished."""
    rows: list[dict[str, Any]] = await rig.redis.xpending_range(
        FrameAccepted.STREAM, GROUP, "-", "+", 1000, f"reconstructor-{VICTIM}"
    )
    return {row["message_id"] for row in rows}


async def is_dead(rig: Rig, count: int) -> bool:
    return await rig.dead() >= count


async def claimed_after_secs(rig: Rig) -> float:
    """Kill the victim for good; seconds until others took over what it had, 0 if nothing."""
    await eventually(lambda: in_hand(rig))
    started_secs = time.monotonic()
    await rig.services[VICTIM].kill_for_good()
    if not await in_hand(rig):
        return 0.0
    while await in_hand(rig):
        await asyncio.sleep(0.02)
    return time.monotonic() - started_secs


async def test_one_of_three_killed_under_load(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    kills = form(2, 20)
    claimed_secs: list[float] = []
    fresh_secs = 0.0
    async with (
        start_rig(reconstructors=3, model=SLOW_MODEL) as rig,
        rig.playing(sessions=6, pace=Pace(frames_per_sec=25)) as load,
    ):
        while len(claimed_secs) < kills:
            started_secs = time.monotonic()
            claimed_secs += filter(None, [await claimed_after_secs(rig)])
            fresh_secs = max(fresh_secs, await load.until_fresh(started_secs))
            rig.services[VICTIM].revive()
        audit = await audited(rig, load)
    faults.add(
        "one of 3 reconstructors killed (-9) under load",
        times=kills,
        figure=f"claimed in {max(claimed_secs):.1f} s; all answered in {fresh_secs:.1f} s",
        target=f"claimed ≤ min-idle + {form.at_most(2):g} s; no session stuck",
        met=not audit.problems() and max(claimed_secs) <= MIN_IDLE_SECS + form.at_most(2),
        why=audit,
    )


async def test_one_of_three_frozen_and_thawed(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    freezes = form(1, 10)
    async with (
        start_rig(reconstructors=3, model=SLOW_MODEL) as rig,
        rig.playing(sessions=6, pace=Pace(frames_per_sec=25)) as load,
    ):
        for _ in range(freezes):
            await eventually(lambda: in_hand(rig))
            rig.services[VICTIM].signal(signal.SIGSTOP)
            await asyncio.sleep(2 * MIN_IDLE_SECS)
            rig.services[VICTIM].signal(signal.SIGCONT)
            await asyncio.sleep(0.5)
        audit = await audited(rig, load)
    faults.add(
        "one of 3 reconstructors frozen beyond min-idle, then thawed",
        times=freezes,
        figure=f"{audit.unbalanced} frames in flight at rest, {audit.miscounted} answers "
        "miscounted",
        target="nothing booked twice: 0 and 0",
        met=not audit.problems(),
        why=audit,
    )


async def test_a_frame_that_kills_its_consumer(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    poisons = form(1, 10)
    async with (
        start_rig(model=("--secs", "0.005")) as rig,
        rig.playing(sessions=4, pace=Pace(frames_per_sec=25)) as load,
    ):
        for poisoned in range(1, poisons + 1):
            await load.players[0].send_last([POISON])
            await eventually(partial(is_dead, rig, poisoned))
            load.players[0].go_on()
            await load.until_fresh(time.monotonic())
        deaths = rig.services["reconstructor-1"].deaths
        audit = await audited(rig, load, expected_dead=poisons)
    lost = {name: n for name, n in audit.ledger.items() if name.startswith(("lost", "dead"))}
    faults.add(
        "a frame that kills its consumer",
        times=poisons,
        figure=f"{deaths / poisons:.1f} deaths each, then sgaps:dead; others lost "
        f"{sum(lost.values()) - poisons}",
        target="≤ 3 deaths, others lose nothing",
        met=not audit.problems() and deaths <= 3 * poisons and sum(lost.values()) == poisons,
        why=audit,
    )
