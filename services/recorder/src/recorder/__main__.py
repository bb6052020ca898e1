"""`python -m recorder`: writes every accepted frame to HDF5 segments."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from recorder.archive import Archive
from recorder.worker import GROUP, Worker
from sgaps.bus import LedgerGuard, every_second, trim_recorded
from sgaps.messages import FrameAccepted
from sgaps.service import Service, run_service


async def main(service: Service) -> None:
    settings = service.settings
    worker = Worker(service, Archive(settings))
    await worker.recover()
    sealing = asyncio.create_task(worker.seal_loop(service.stop))
    keeping = asyncio.create_task(every_second(housekeeping(service), service.stop))
    await worker.consumer.run(service.stop)
    await asyncio.gather(sealing, keeping)
    await worker.seal(everything=True)


def housekeeping(service: Service) -> Callable[[], Awaitable[None]]:
    """What there must be one of in a system, as there is one recorder: trimming, the ledger."""
    bus, guard = service.bus, LedgerGuard(service.bus)

    async def turn() -> None:
        await guard.look()
        await trim_recorded(
            bus,
            FrameAccepted.STREAM,
            must=GROUP,
            may="reconstructor",
            settings=service.settings.bus,
        )

    return turn


if __name__ == "__main__":
    sys.exit(run_service("recorder", main))
