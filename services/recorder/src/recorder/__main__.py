"""`python -m recorder`: writes every accepted frame to HDF5 segments."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from recorder.archive import Archive
from recorder.broker_state import exposed
from recorder.retention import Retention
from recorder.worker import GROUP, Worker
from sgaps.bus import Trimmer, every_second
from sgaps.messages import FrameAccepted, FrameReconstructed
from sgaps.metrics import recorder as metrics
from sgaps.open_files import allow_most_open_files
from sgaps.recording.disk import free_space_bytes
from sgaps.service import Service, run_service, together

log = logging.getLogger(__name__)


async def main(service: Service) -> None:
    settings = service.settings
    allow_most_open_files()  # every session that is being recorded takes two
    # It looks into every folder for what an earlier process left open.
    archive = await asyncio.to_thread(Archive, settings)
    worker = Worker(service, archive, Retention(settings))
    _expose(worker, archive, settings.data.recordings_dir)
    service.describe = worker.describe
    service.watch(worker)
    await together(
        service.stop,
        worker.recover_loop(),
        worker.seal_loop(),
        worker.retain_loop(),
        every_second(trim(service), service.stop, refused=metrics.TRIMMING_REFUSED.set),
        every_second(exposed(service.bus), service.stop),
        worker.run(),
    )
    await worker.finish()


def trim(service: Service) -> Callable[[], Awaitable[None]]:
    """What there must be one of in a system, as there is one recorder."""
    trimmer, expiring = Trimmer(service.bus, service.settings.bus), False

    async def turn() -> None:
        nonlocal expiring
        expired = await trimmer.trim_recorded(FrameAccepted.STREAM, must=GROUP, may="reconstructor")
        expired += await trimmer.trim_waiting(FrameReconstructed.STREAM, "sampler")
        if expired and not expiring:
            log.error("%d frames expired: no reconstructor or sampler has time for them", expired)
        expiring = bool(expired)

    return turn


def _expose(worker: Worker, archive: Archive, recordings_dir: Path) -> None:
    """What is asked for when Prometheus asks, not told when it changes."""
    metrics.WAITING.set_function(lambda: bool(worker.waiting_for))
    metrics.SEGMENTS_OPEN.set_function(lambda: archive.open_segments)
    metrics.FREE_BYTES.set_function(lambda: free_space_bytes(recordings_dir))


if __name__ == "__main__":
    sys.exit(run_service("recorder", main))
