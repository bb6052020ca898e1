"""Hot reload: hears of published checkpoints and has them swapped in between two batches."""

from __future__ import annotations

import asyncio
import logging

from reconstructor.frame import Reconstructor
from sgaps.errors import BusError, BusUnavailable
from sgaps.messages import CheckpointPublished
from sgaps.metrics import reconstructor as metrics
from sgaps.service import Service

log = logging.getLogger(__name__)

RETRY_SECS = 0.5
LOOK_AGAIN_SECS = 10.0
"""An announcement can be lost with the broker; the folder cannot."""


async def follow_checkpoints(service: Service, reconstructor: Reconstructor) -> None:
    """Refresh on every announcement, and now and then without one, until told to stop."""
    metrics.serve_models(reconstructor.serving())
    bus, after_id = service.bus, service.bus.START
    looked_at_secs, is_told = 0.0, False
    clock = asyncio.get_running_loop().time
    while not service.stop.is_set():
        try:
            entries = await bus.tail(
                CheckpointPublished.STREAM,
                after_id,
                count=100,
                block_secs=service.settings.bus.block_secs,
            )
            is_told = False
        except BusError as error:
            entries = []
            if not isinstance(error, BusUnavailable) and not is_told:
                log.error("announcements of checkpoints: %s", error)  # noqa: TRY400 - told once
                is_told = True
            await asyncio.sleep(RETRY_SECS)
        if entries:
            after_id = entries[-1].entry_id
        if entries or clock() - looked_at_secs > LOOK_AGAIN_SECS:
            looked_at_secs = clock()
            await _refresh(reconstructor)


async def _refresh(reconstructor: Reconstructor) -> None:
    """Swap in what is new. Whatever goes wrong, it is tried again: a replica that no longer looked
    would serve old models for ever."""
    try:
        metrics.SWAPPED.inc(await asyncio.to_thread(reconstructor.refresh))
    except Exception:
        log.exception("the old models go on serving; checkpoints are looked at again")
        metrics.FAILED.inc()
    metrics.serve_models(reconstructor.serving())
