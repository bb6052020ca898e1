"""The broker dies, forgets everything, or is full."""

from __future__ import annotations

import asyncio
import random
import time

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Pace
from faults.report import FaultTable

DURABILITY_SECS = 2.0
"""What an AOF with `everysec` may lose of the last writes before a kill."""
FLOOD_LINES = 10


async def test_broker_killed_at_random(start_rig: StartRig, faults: FaultTable, form: Form) -> None:
    kills, rng = form(3, 50), random.Random(2)
    kill_secs, resumed_secs = [], []
    async with (
        start_rig() as rig,
        rig.playing(sessions=4, pace=Pace(frames_per_sec=25)) as load,
    ):
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0.5, 2.0))
            kill_secs.append(time.monotonic())
            rig.broker.kill()
            rig.broker.start()
            resumed_secs.append(await load.until_fresh(time.monotonic()))
        told = await rig.recorded()
        audit = await audited(rig, load)
    too_old = [
        frame_id
        for frame_id in audit.lost_ids
        if not any(0 <= kill - load.sent_at_secs(frame_id) < DURABILITY_SECS for kill in kill_secs)
    ]
    problems = audit.problems(except_for={"lost", "miscounted"})
    faults.add(
        "broker killed (-9) with AOF",
        times=f"{kills} kills, {audit.accepted} frames",
        figure=f"{max(0, told - audit.recorded)} recorded lost ({audit.lost} not yet recorded went "
        f"with the AOF's last seconds); resumed in {max(resumed_secs):.1f} s",
        target=f"0 recorded lost; resumed ≤ {form.at_most(5):g} s",
        met=not problems
        and not too_old
        and told <= audit.recorded
        and max(resumed_secs) <= form.at_most(5),
        why=(problems, too_old, audit),
    )


async def test_flush_while_everyone_is_blocked(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    flushes = form(1, 10)
    resumed_secs = []
    async with (
        start_rig() as rig,
        rig.playing(sessions=4, pace=Pace(frames_per_sec=25)) as load,
    ):
        lines = rig.log_line_counts()
        for _ in range(flushes):
            await asyncio.sleep(1)
            await load.rest()
            await rig.until_quiet()
            await rig.redis.flushall()
            await asyncio.sleep(1)
            load.go_on()
            resumed_secs.append(await load.until_fresh(time.monotonic()))
        noise = max(n - lines[name] for name, n in rig.log_line_counts().items()) / flushes
        audit = await audited(rig, load)
    problems = audit.problems(except_for={"miscounted"})
    faults.add(
        "FLUSHALL while everyone is blocked",
        times=flushes,
        figure=f"resumed in {max(resumed_secs):.1f} s; ≤ {noise:.0f} log lines of a service",
        target=f"≤ {form.at_most(5):g} s; ≤ {FLOOD_LINES} lines; 0 lost",
        met=not problems and max(resumed_secs) <= form.at_most(5) and noise <= FLOOD_LINES,
        why=(problems, audit),
    )


async def test_flush_under_load(start_rig: StartRig, faults: FaultTable, form: Form) -> None:
    flushes = form(1, 10)
    resumed_secs = []
    async with (
        start_rig() as rig,
        rig.playing(sessions=4, pace=Pace(frames_per_sec=25)) as load,
    ):
        for _ in range(flushes):
            await asyncio.sleep(1)
            await rig.redis.flushall()
            resumed_secs.append(await load.until_fresh(time.monotonic()))
        audit = await audited(rig, load)
    problems = audit.problems(except_for={"lost", "miscounted"})
    faults.add(
        "FLUSHALL under load",
        times=flushes,
        figure=f"resumed in {max(resumed_secs):.1f} s; {audit.lost} of {audit.accepted} frames "
        f"lost with the broker's data; in flight at rest {audit.unbalanced}",
        target=f"≤ {form.at_most(5):g} s; the ledger balances",
        met=not problems and max(resumed_secs) <= form.at_most(5),
        why=(problems, audit),
    )
