"""`python -m recorder`: writes every accepted frame to HDF5 segments."""

from __future__ import annotations

import asyncio
import sys

from recorder.archive import Archive
from recorder.worker import GROUP, Worker
from sgaps.bus import trim_recorded
from sgaps.messages import FrameAccepted
from sgaps.service import Service, run_service


async def main(service: Service) -> None:
    settings = service.settings
    worker = Worker(service, Archive(settings))
    await worker.recover()
    sealing = asyncio.create_task(worker.seal_loop(service.stop))
    trimming = asyncio.create_task(
        trim_recorded(
            service.bus,
            FrameAccepted.STREAM,
            must=GROUP,
            may="reconstructor",
            max_backlog=settings.bus.max_backlog,
            stop=service.stop,
        )
    )
    await worker.consumer.run(service.stop)
    await asyncio.gather(sealing, trimming)
    await worker.seal(everything=True)


if __name__ == "__main__":
    sys.exit(run_service("recorder", main))
