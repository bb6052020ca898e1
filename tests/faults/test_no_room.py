"""The broker's memory is full; the recorder's disk is full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Load, Pace
from faults.report import FaultTable
from faults.rig import MIN_IDLE_SECS, Rig
from sgaps.errors import ErrorCode
from small_disk import fill, small_disk

DISK_BYTES = 16 << 20
WATERMARK_BYTES = 512 << 10
MEMORY_FULL_SECS = 4 * MIN_IDLE_SECS
"""Long enough for whatever counts failed deliveries."""
DISK_FULL_SECS = 3.0
EVERY_FRAME_TOLD = Pace(frames_per_sec=25, frames_per_heartbeat=1)


async def fill_broker(rig: Rig, load: Load, secs: float) -> float:
    """No memory for so long; seconds until every session is answered again afterwards."""
    limits: dict[Any, Any] = await rig.redis.config_get("maxmemory")
    used_bytes = (await rig.redis.info("memory"))["used_memory"]
    await rig.redis.config_set("maxmemory", used_bytes + 64_000)
    await asyncio.sleep(secs)
    await rig.redis.config_set("maxmemory", limits["maxmemory"])
    return await load.until_fresh(time.monotonic())


async def test_broker_at_maxmemory(start_rig: StartRig, faults: FaultTable, form: Form) -> None:
    times = form(1, 5)
    resumed_secs = []
    async with (
        start_rig() as rig,
        rig.playing(sessions=4, pace=EVERY_FRAME_TOLD) as load,
    ):
        for _ in range(times):
            resumed_secs.append(await fill_broker(rig, load, MEMORY_FULL_SECS))
            await asyncio.sleep(1)
        deaths = sum(service.deaths for service in rig.services.values())
        audit = await audited(rig, load)
    told = load.errors[ErrorCode.OVERLOADED]
    faults.add(
        "broker at maxmemory",
        times=f"{times} × {MEMORY_FULL_SECS:g} s",
        figure=f"{audit.lost} falsely acknowledged; {told} × overloaded; resumed in "
        f"{max(resumed_secs):.1f} s, {deaths} restarts; {audit.dead} in sgaps:dead",
        target=f"0; told; ≤ {form.at_most(5):g} s without restart; 0",
        met=not audit.problems()
        and told > 0
        and not deaths
        and max(resumed_secs) <= form.at_most(5),
        why=(load.errors, audit),
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_bytes=DISK_BYTES) as folder:
        yield folder


@pytest.mark.parametrize("watermark_bytes", [WATERMARK_BYTES, 0])
async def test_disk_full(
    start_rig: StartRig, faults: FaultTable, form: Form, disk: Path, watermark_bytes: int
) -> None:
    if not (watermark_bytes or form.is_long):
        pytest.skip("make test-faults; without load: integration/test_recorder_full_disk.py")
    times = form(1, 5)
    resumed_secs = []
    async with (
        start_rig(
            recordings_dir=disk / "recordings",
            overrides=[f"recorder.min_free_bytes={watermark_bytes}"],
        ) as rig,
        rig.playing(sessions=4, pace=EVERY_FRAME_TOLD) as load,
    ):
        for _ in range(times):
            await asyncio.sleep(1)
            filler = fill(disk, leave_bytes=watermark_bytes // 2)
            await asyncio.sleep(DISK_FULL_SECS)
            filler.unlink()
            resumed_secs.append(await load.until_recorded(time.monotonic()))
        deaths = sum(service.deaths for service in rig.services.values())
        audit = await audited(rig, load)
    faults.add(
        "disk full" + ("" if watermark_bytes else ", and no watermark"),
        times=f"{times} × {DISK_FULL_SECS:g} s",
        figure=f"{audit.lost} acknowledged lost, {audit.falsely_recorded} falsely told as "
        f"recorded; recording again in {max(resumed_secs):.1f} s, {deaths} restarts",
        target=f"0 and 0; ≤ {form.at_most(5):g} s without restart",
        met=not audit.problems() and not deaths and max(resumed_secs) <= form.at_most(5),
        why=audit,
    )
