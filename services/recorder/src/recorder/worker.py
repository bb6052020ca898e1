"""The recorder's loop: every frame to disk, and only then acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from recorder.archive import Archive, BatchReport
from sgaps import metrics
from sgaps.bus import Bus, Consumer, Delivery, Operation, Outcome, Publish, Put
from sgaps.errors import BusError, DiskFull
from sgaps.keys import SESSION_TTL_SECS, session_key
from sgaps.messages import FrameAccepted, SegmentSealed
from sgaps.service import Service

log = logging.getLogger(__name__)

GROUP = "recorder"
MAX_ANNOUNCEMENTS = 10_000
SEAL_EVERY_SECS = 0.5
DISK_FULL_RETRY_SECS = 1.0


class Worker:
    """Writes batches to the archive; announces what is sealed."""

    def __init__(self, service: Service, archive: Archive) -> None:
        self._bus: Bus = service.bus
        self._archive = archive
        self._stop = service.stop
        self._writing = asyncio.Lock()
        self._unannounced: list[SegmentSealed] = []
        self.consumer = Consumer(
            service.bus,
            FrameAccepted,
            group=GROUP,
            name=service.consumer_name,
            settings=service.settings.bus,
            handle=self.handle,
        )

    async def handle(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        """Write and fsync the batch; frames that could not be written are not acknowledged."""
        with metrics.stage("record", len(batch)):
            report = await self._record([delivery.message for delivery in batch])
        if report is None:
            return Outcome(failed=frozenset(delivery.entry_id for delivery in batch))
        metrics.FRAMES_RECORDED.inc(report.recorded)
        metrics.RECORDED_BYTES.inc(report.size_bytes)
        marks: list[Operation] = [
            Put(session_key(session), {"last_recorded_frame_id": b"%d" % newest}, SESSION_TTL_SECS)
            for session, newest in report.newest_frame_ids.items()
        ]
        return Outcome(
            operations=marks,
            failed=frozenset(
                d.entry_id
                for d in batch
                if (d.message.session_id, d.message.frame_id) in report.failed
            ),
        )

    async def _record(self, frames: list[FrameAccepted]) -> BatchReport | None:
        """Wait for space on a full disk; None if told to stop before there was any."""
        told = False
        while not self._stop.is_set():
            try:
                async with self._writing:
                    return await asyncio.to_thread(self._archive.record, frames)
            except DiskFull as error:
                if not told:
                    log.error("waiting for space: %s", error)  # noqa: TRY400 - told and waited for
                told = True
                await self.seal(everything=True)
                await asyncio.sleep(DISK_FULL_RETRY_SECS)
        return None

    async def recover(self) -> None:
        """Seal what an earlier process left open."""
        async with self._writing:
            self._unannounced += await asyncio.to_thread(self._archive.recover)

    async def seal_loop(self, stop: asyncio.Event) -> None:
        """Seal the segments of silent sessions and announce what is sealed."""
        while not stop.is_set():
            await self.seal()
            await asyncio.sleep(SEAL_EVERY_SECS)

    async def seal(self, *, everything: bool = False) -> None:
        async with self._writing:
            sealed = await asyncio.to_thread(
                self._archive.seal_all
                if everything
                else lambda: self._archive.seal_idle(time.time())
            )
        self._unannounced += sealed
        try:
            while self._unannounced:
                await self._bus.write(Publish(self._unannounced[0], MAX_ANNOUNCEMENTS))
                segment = self._unannounced.pop(0)
                log.info("sealed %s: %d frames", segment.path, segment.frame_count)
        except BusError as error:
            log.debug("announcements wait for the broker: %s", error)
