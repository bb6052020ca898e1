"""`python -m reconstructor`: rebuilds whole frames from samples."""

from __future__ import annotations

import asyncio
import sys

from reconstructor.build import build_reconstructor
from reconstructor.checkpoints import follow_checkpoints
from reconstructor.worker import Worker
from sgaps.service import Service, run_service


async def main(service: Service) -> None:
    service.readiness = lambda: "it loads its model"
    reconstructor = await asyncio.to_thread(build_reconstructor, service.settings)
    await asyncio.to_thread(reconstructor.warm_up)
    service.describe = lambda: {
        "method": service.settings.reconstructor.method,
        "serving": reconstructor.serving(),
    }
    following = asyncio.create_task(follow_checkpoints(service, reconstructor))
    consumer = Worker(service, reconstructor).consumer
    service.watch(consumer)
    await consumer.run(service.stop)
    await following


if __name__ == "__main__":
    sys.exit(run_service("reconstructor", main))
