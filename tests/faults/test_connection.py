"""The connection between one service and the broker is cut, slow, or half-open."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import get_args

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Load, Pace
from faults.report import FaultTable
from faults.rig import BLOCK_SECS, SOCKET_TIMEOUT_SECS
from ports import free_port
from proxy import Fault, Proxy

SERVICES = ("gateway", "reconstructor", "sampler", "recorder")
FAULTS = [fault for fault in get_args(Fault) if fault != "none"]
SHORT = [("gateway", "half-open"), ("reconstructor", "cut"), ("recorder", "half-open")]
TIMEOUT_SECS = SOCKET_TIMEOUT_SECS + BLOCK_SECS
"""Of a blocking read, which may legally be silent for so long."""
HELD_SECS = 1.5 * SOCKET_TIMEOUT_SECS
LATE_SECS = SOCKET_TIMEOUT_SECS + 0.5
"""A reply that comes so late comes to somebody who has given up."""


@asynccontextmanager
async def proxies(target_port: int) -> AsyncIterator[dict[str, Proxy]]:
    async with AsyncExitStack() as stack:
        made = {name: Proxy(target_port, slow_secs=LATE_SECS) for name in SERVICES}
        for proxy in made.values():
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        yield made


async def resumed_after_secs(load: Load, proxy: Proxy, fault: Fault) -> float:
    """Hurt and heal; seconds until new frames of every session are answered, and recorded."""
    proxy.hurt(fault)
    await asyncio.sleep(HELD_SECS)
    proxy.heal()
    healed_secs = time.monotonic()
    return max(await load.until_fresh(healed_secs), await load.until_recorded(healed_secs))


async def test_connection_to_the_broker(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    cases = form(SHORT, list(itertools.product(SERVICES, FAULTS)) * 3)
    resumed: list[tuple[str, str, float]] = []
    port = free_port()
    async with (
        proxies(port) as by_service,
        start_rig(
            broker_port=port,
            urls={name: f"redis://127.0.0.1:{proxy.port}/0" for name, proxy in by_service.items()},
        ) as rig,
        rig.playing(sessions=4, pace=Pace(frames_per_sec=25)) as load,
    ):
        for service, fault in cases:
            secs = await resumed_after_secs(load, by_service[service], fault)
            resumed.append((service, fault, secs))
        deaths = sum(service.deaths for service in rig.services.values())
        audit = await audited(rig, load)
    limit_secs = form.at_most(2) * TIMEOUT_SECS
    service, fault, slowest_secs = max(resumed, key=lambda case: case[2])
    faults.add(
        "connection to the broker cut, slowed, half-open",
        times=f"{len(cases)}, one service at a time",
        figure=f"resumed in {slowest_secs:.1f} s ({service} {fault}); "
        f"{audit.astray + audit.altered} swapped replies",
        target=f"≤ {form.at_most(2):g} × timeout ({limit_secs:g} s); 0 swapped",
        met=not audit.problems() and not deaths and slowest_secs <= limit_secs,
        why=(resumed, audit),
    )
