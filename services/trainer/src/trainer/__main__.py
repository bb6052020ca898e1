"""`python -m trainer`: trains checkpoints from recordings as they come."""

from __future__ import annotations

import asyncio
import os
import sys

from sgaps.service import Service, run_service
from trainer.worker import Worker

NICENESS = 10
"""Training waits for the services that answer a game."""


async def main(service: Service) -> None:
    os.nice(NICENESS)
    worker = Worker(service)
    service.describe = worker.describe
    training = asyncio.create_task(worker.train_loop())
    await worker.consumer.run(service.stop)
    await training


if __name__ == "__main__":
    sys.exit(run_service("trainer", main))
