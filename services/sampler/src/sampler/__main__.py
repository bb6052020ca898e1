"""`python -m sampler`: chooses the next samples of every session."""

from __future__ import annotations

import asyncio
import sys

from sampler.worker import GROUP, Worker
from sgaps.bus import trim_behind
from sgaps.messages import FrameReconstructed
from sgaps.service import Service, run_service


async def main(service: Service) -> None:
    worker = Worker(service)
    service.watch(worker.consumer)
    trimming = asyncio.create_task(
        trim_behind(service.bus, FrameReconstructed.STREAM, GROUP, service.stop)
    )
    await worker.consumer.run(service.stop)
    await trimming


if __name__ == "__main__":
    sys.exit(run_service("sampler", main))
