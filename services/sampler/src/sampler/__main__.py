"""`python -m sampler`: chooses the next samples of every session."""

from __future__ import annotations

import sys

from sampler.worker import GROUP, Worker
from sgaps.bus import trim_behind
from sgaps.messages import FrameReconstructed
from sgaps.service import Service, run_service, together


async def main(service: Service) -> None:
    worker = Worker(service)
    service.watch(worker.consumer)
    await together(
        service.stop,
        worker.consumer.run(service.stop),
        trim_behind(service.bus, FrameReconstructed.STREAM, GROUP, service.stop),
    )


if __name__ == "__main__":
    sys.exit(run_service("sampler", main))
