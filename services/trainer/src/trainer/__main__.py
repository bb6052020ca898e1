"""`python -m trainer`: trains checkpoints from recordings as they come."""

from __future__ import annotations

import contextlib
import os
import sys

from sgaps.metrics import trainer as metrics
from sgaps.open_files import allow_most_open_files
from sgaps.recording.disk import free_space_bytes
from sgaps.service import Service, run_service, together
from trainer.worker import Worker

NICENESS = 19


async def main(service: Service) -> None:
    _give_way()
    allow_most_open_files()
    checkpoints_dir = service.settings.data.checkpoints_dir
    metrics.FREE_BYTES.set_function(lambda: free_space_bytes(checkpoints_dir))
    worker = Worker(service)
    service.watch(worker.consumer)
    service.describe = worker.describe
    # A process whose loop has ended would be ready and alive, and train nothing.
    await together(service.stop, worker.train_loop(), worker.consumer.run(service.stop))


def _give_way() -> None:
    """Train only where a core would idle: the services that answer a game come first."""
    os.nice(NICENESS)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may refuse it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    sys.exit(run_service("trainer", main))
