"""The recorder's loop: every frame to disk, and only then acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from recorder.archive import Archive, BatchReport, FrameName
from recorder.retention import Retention
from sgaps import tracing
from sgaps.bus import Bus, Consumer, Delivery, Outcome, Publish, Put
from sgaps.errors import BusError, DiskFull, RecordingError, StorageFails
from sgaps.keys import SESSION_TTL_SECS, session_key
from sgaps.messages import FrameAccepted, SegmentSealed
from sgaps.metrics import stage
from sgaps.service import Service, Status

log = logging.getLogger(__name__)

GROUP = "recorder"
MAX_ANNOUNCEMENTS = 10_000
SEAL_EVERY_SECS = 0.5
STORAGE_RETRY_SECS = 1.0
RETAIN_EVERY_SECS = 30.0
DELETED_AT_ONCE = 32
"""Segments, while nothing is recorded."""
EARLY_BYTES = 64 * 2**20
"""How much at least is deleted each time on a full disk, where anything may be."""

T = TypeVar("T")


class _Stopped(BaseException):
    """Told to stop while waiting for storage: nothing may be claimed any more, not even to fail."""


class Worker:
    """Writes batches to the archive; announces what is sealed."""

    def __init__(self, service: Service, archive: Archive, retention: Retention) -> None:
        self._bus: Bus = service.bus
        self._archive = archive
        self._retention = retention
        self._stop = service.stop
        self._writing = asyncio.Lock()
        self._retaining = asyncio.Lock()
        self._waiting = ""
        self._unannounced: list[SegmentSealed] = []
        self.consumer = Consumer(
            service.bus,
            FrameAccepted,
            group=GROUP,
            name=service.consumer_name,
            settings=service.settings.bus.model_copy(
                update={"max_deliveries": service.settings.recorder.max_deliveries}
            ),
            handle=self.handle,
            prepare=self.prepare,
            stage="record",
        )

    @property
    def last_turn_at_secs(self) -> float:
        return self.consumer.last_turn_at_secs

    @property
    def waiting_for(self) -> str:
        """Space, a disk that fails, or the broker; empty while frames are being recorded."""
        return self._waiting or self.consumer.waiting_for

    @property
    def fails_for_secs(self) -> float:
        return self.consumer.fails_for_secs

    def describe(self) -> Status:
        """What the heartbeat tells."""
        return {
            "waiting": self.waiting_for,
            "open_segments": self._archive.open_segments,
            "synced_at_secs": self._archive.synced_at_secs,
        }

    async def run(self) -> None:
        """Record until told to stop."""
        with contextlib.suppress(_Stopped):
            # A claim is a delivery more: on a full disk frames would use theirs up waiting.
            await self._when_storage_works(self._archive.ensure_space_for_any)
            await self.consumer.run(self._stop)

    async def prepare(self, frame: FrameAccepted) -> None:
        """Open the session of a frame that is to be claimed, when there is space for it."""
        if not frame.is_probe:
            await self._when_storage_works(lambda: self._archive.make_ready(frame))

    async def handle(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        """Write and fsync the batch; frames that could not be written are not acknowledged.

        Probes are not written: they wait for the frames beside them, and for storage; beside frames
        none of which could be written they tell nobody that recording works.
        """
        started_at_secs = time.time()
        messages = [delivery.message for delivery in batch]
        frames = [message for message in messages if not message.is_probe]
        with stage("record", len(batch)):
            report = await self._when_storage_works(lambda: self._archive.record(frames))
        works = not frames or any(_name(frame) not in report.failed for frame in frames)
        probes = {m.session_id: m.frame_id for m in messages if m.is_probe and works}
        marks = _marks({**report.newest_frame_ids, **probes})
        failed = _failed(batch, report)
        for delivery in batch:
            if delivery.entry_id not in failed:
                tracing.passed(
                    "record",
                    delivery.message,
                    started_at_secs=started_at_secs,
                    entry_id=delivery.entry_id,
                    batch_size=len(batch),
                )
        return Outcome(marks=marks, failed=failed)

    async def _when_storage_works(self, work: Callable[[], T]) -> T:
        """Do it, where nothing can be written as soon as it can. Raises _Stopped if told to stop
        before."""
        try:
            while True:
                try:
                    return await self._alone(work)
                except StorageFails as error:
                    if self._stop.is_set():
                        raise _Stopped from error
                    await self._wait_for_storage(error)
        finally:
            self._waiting = ""

    async def _wait_for_storage(self, error: StorageFails) -> None:
        what = "disk full" if isinstance(error, DiskFull) else "disk fails"
        if not self._waiting:
            log.error("waiting, %s: %s", what, error)
        self._waiting = f"{what}: {error}"
        await self._seal_all()
        if isinstance(error, DiskFull):
            await self._delete_surplus(short_bytes=EARLY_BYTES)
        await asyncio.sleep(STORAGE_RETRY_SECS)

    async def _alone(self, work: Callable[[], T]) -> T:
        """In a thread, while nobody else works on the archive."""
        async with self._writing:
            return await asyncio.to_thread(work)

    async def recover_loop(self) -> None:
        """Seal what earlier processes left open, and what a full disk had set aside."""
        while not self._stop.is_set():
            pause_secs = SEAL_EVERY_SECS
            if self._archive.has_unrecovered:
                try:
                    self._unannounced += await self._alone(self._archive.recover)
                    pause_secs = 0
                except StorageFails as error:
                    log.debug("recovery waits: %s", error)
            await asyncio.sleep(pause_secs)

    async def seal_loop(self) -> None:
        """Seal full segments and those of silent sessions, and announce them."""
        while not self._stop.is_set():
            self._unannounced += await self._alone(
                lambda: self._archive.seal_idle(time.monotonic())
            )
            await self._announce()
            await asyncio.sleep(SEAL_EVERY_SECS)

    async def retain_loop(self) -> None:
        """Delete what the settings allow to go."""
        while not self._stop.is_set():
            await self._delete_surplus()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), RETAIN_EVERY_SECS)

    async def _delete_surplus(self, *, short_bytes: int = 0) -> None:
        async with self._retaining:  # or two would choose the same segments
            try:
                surplus = await asyncio.to_thread(
                    self._retention.surplus, time.time(), short_bytes=short_bytes
                )
                for start in range(0, len(surplus), DELETED_AT_ONCE):
                    some = surplus[start : start + DELETED_AT_ONCE]
                    await self._alone(partial(self._retention.delete, some))
            except RecordingError:
                log.exception("recordings stay longer than they might")

    async def finish(self) -> None:
        """Seal and announce everything. Call it when nothing else runs any more."""
        await self._seal_all()
        await self._announce()

    async def _seal_all(self) -> None:
        self._unannounced += await self._alone(self._archive.seal_all)

    async def _announce(self) -> None:
        try:
            while self._unannounced:
                await self._bus.write(Publish(self._unannounced[0], MAX_ANNOUNCEMENTS))
                segment = self._unannounced.pop(0)
                log.info("sealed %s: %d frames", segment.path, segment.frame_count)
        except BusError as error:
            log.debug("announcements wait for the broker: %s", error)


def _marks(newest_frame_ids: Mapping[str, int]) -> list[Put]:
    """What clients are told when they ask how far their session is on disk."""
    return [
        Put(session_key(session), {"last_recorded_frame_id": b"%d" % newest}, SESSION_TTL_SECS)
        for session, newest in newest_frame_ids.items()
    ]


def _name(frame: FrameAccepted) -> FrameName:
    return frame.session_id, frame.frame_id


def _failed(batch: Sequence[Delivery[FrameAccepted]], report: BatchReport) -> frozenset[str]:
    return frozenset(d.entry_id for d in batch if _name(d.message) in report.failed)
