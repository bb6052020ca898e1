"""More frames than the model can take; replicas that answer out of order."""

from __future__ import annotations

import asyncio
import time

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Load, Pace
from faults.report import FaultTable

BATCH, BATCH_SECS = 4, 0.04
CAPACITY_FPS = BATCH / BATCH_SECS
PACE = Pace(frames_per_sec=25)
OVERLOAD_SESSIONS = int(3 * CAPACITY_FPS / PACE.frames_per_sec)
SETTLE_SECS = 1.0


async def p99_age_secs(load: Load, secs: float) -> float:
    """99th percentile of the age of results over so long, once the load has settled."""
    await asyncio.sleep(SETTLE_SECS)
    since_secs = time.monotonic()
    await asyncio.sleep(secs)
    return load.percentile_age_secs(99, since_secs, time.monotonic())


async def test_overload_three_times(start_rig: StartRig, faults: FaultTable, form: Form) -> None:
    secs = form(4, 60)
    model = ("--secs", str(BATCH_SECS), "--frames-at-once", str(BATCH))
    async with start_rig(model=model) as rig:
        async with rig.playing(sessions=1, pace=PACE) as alone:
            unloaded_secs = await p99_age_secs(alone, secs)
            await alone.rest()
            await rig.until_quiet()
        async with rig.playing(sessions=OVERLOAD_SESSIONS, pace=PACE, first_index=1) as load:
            loaded_secs = await p99_age_secs(load, secs)
            audit = await audited(rig, load, earlier=alone)
    ratio = loaded_secs / unloaded_secs
    faults.add(
        "overload 3×",
        times=f"{secs} s, {OVERLOAD_SESSIONS} sessions, {audit.accepted} frames",
        figure=f"p99 age {loaded_secs * 1000:.0f} ms, {ratio:.1f}× unloaded "
        f"({unloaded_secs * 1000:.0f} ms); {audit.lost} unrecorded; {audit.unbalanced} unaccounted",
        target=f"≤ {form.at_most(2):g}×; recorder complete; the ledger balances",
        met=not audit.problems() and ratio <= form.at_most(2),
        why=audit,
    )


async def test_four_replicas_with_jitter(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    results = form(2_000, 100_000)
    async with (
        start_rig(reconstructors=4, model=("--jitter-secs", "0.1")) as rig,
        rig.playing(sessions=form(20, 30), pace=PACE) as load,
    ):
        while load.answer_count < results:
            await asyncio.sleep(0.1)
        audit = await audited(rig, load)
    late = audit.ledger.get("out_of_order", 0)
    faults.add(
        "4 replicas with random jitter",
        times=f"{load.answer_count} results",
        figure=f"{audit.astray} older than the last ({late} came late and were dropped)",
        target="0",
        met=not audit.problems(),
        why=audit,
    )
