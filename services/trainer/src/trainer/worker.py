"""The trainer's loop: hears of sealed segments, trains a key when it has enough new frames."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgaps.bus import Bus, Consumer, Delivery, Outcome, Publish
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import BusError, SgapsError
from sgaps.messages import CheckpointPublished, SegmentSealed
from sgaps.metrics import trainer as metrics
from sgaps.recording import SegmentInfo, find_segments, trained_segments, untrained
from sgaps.service import Service, Status
from sgaps.settings import Settings
from trainer.attempts import MOST_KILLED, attempts_at, forgive
from trainer.run_lock import BeingTrained

if TYPE_CHECKING:
    from trainer.run import RunReport
    from trainer.schedule import Progress

log = logging.getLogger(__name__)

GROUP = "trainer"
MAX_ANNOUNCEMENTS = 1000
LOOK_EVERY_SECS = 1.0
BUSY_RETRY_SECS = 60.0
"""After this long a key that another process trained is considered again."""


class Worker:
    """Announcements only wake it: the truth is the folder of recordings."""

    def __init__(self, service: Service) -> None:
        self._bus: Bus = service.bus
        self._settings = service.settings
        self._stop = service.stop
        self._waiting_keys: set[str] = set()
        self._segments: dict[str, list[SegmentInfo]] = {}
        """Of each key, as they were seen last: only what is new is opened."""
        self._tried: dict[str, list[SegmentInfo]] = {}
        """Segments of a key's newest run, however it ended: a failed one waits for new frames."""
        self._given_up: set[str] = set()
        """Keys of which it was told that runs were killed."""
        self._progress: Progress | None = None
        self._training_key = ""
        self.consumer = Consumer(
            service.bus,
            SegmentSealed,
            group=GROUP,
            name=service.consumer_name,
            settings=service.settings.bus,
            handle=self.handle,
        )

    def describe(self) -> Status:
        """What the heartbeat tells."""
        progress = self._progress
        return {
            "training": self._training_key,
            "step": progress.step if progress else 0,
            "loss": progress.loss if progress else None,
        }

    async def handle(self, batch: Sequence[Delivery[SegmentSealed]]) -> Outcome:
        """Note which keys have something new."""
        self._waiting_keys |= {delivery.message.checkpoint_key for delivery in batch}
        return Outcome()

    async def train_loop(self) -> None:
        """Train the keys that have something new, one at a time, until told to stop."""
        recordings_dir = self._settings.data.recordings_dir
        segments = await asyncio.to_thread(find_segments, recordings_dir)
        for segment in segments:
            self._segments.setdefault(segment.checkpoint_key, []).append(segment)
        self._waiting_keys |= self._segments.keys()
        while not self._stop.is_set():
            while self._waiting_keys and not self._stop.is_set():
                await self._consider(self._waiting_keys.pop())
            await asyncio.sleep(LOOK_EVERY_SECS)

    async def _consider(self, key: str) -> None:
        """Whatever goes wrong with one run, the next one begins: no disk, no memory, a bug."""
        try:
            await self._train_if_enough(key)
        except SgapsError as error:
            metrics.FAILED.inc()
            log.error("training of %s failed: %s", key, error)  # noqa: TRY400 - typed and told
        except Exception:
            metrics.FAILED.inc()
            log.exception("training of %s failed", key)

    async def _train_if_enough(self, key: str) -> None:
        root, known = self._settings.data.recordings_dir, self._segments.get(key, ())
        segments = await asyncio.to_thread(find_segments, root, key, known=known)
        self._segments[key] = segments
        new = await asyncio.to_thread(self._new, key, segments)
        if not enough_to_train(segments, new=new, settings=self._settings):
            return
        tried_before = self._tried.get(key, [])
        self._tried[key] = segments
        if key == DEFAULT_KEY:  # or any client could change what serves all games
            log.warning(
                "recordings of the key %s train nothing, and stay: its checkpoint serves all games "
                "that have none of their own, and is made by hand (sgaps train)",
                key,
            )
            return
        try:
            report = await self._train(key, segments)
        except BeingTrained as error:
            self._tried[key] = tried_before
            log.info("%s is considered later: %s", key, error)
            asyncio.get_running_loop().call_later(BUSY_RETRY_SECS, self._waiting_keys.add, key)
            return
        await self._announce(key, report)

    def _new(self, key: str, segments: Sequence[SegmentInfo]) -> list[SegmentInfo]:
        """Those that no run has had."""
        data, tried = self._settings.data, set(self._tried.get(key, []))
        untried = [segment for segment in segments if segment not in tried]
        try:
            trained = trained_segments(key, data.checkpoints_dir)
        except SgapsError as error:
            log.error("all of %s counts as new: %s", key, error)  # noqa: TRY400 - it says all
            return untried
        new = untrained(untried, trained, root=data.recordings_dir)
        return self._without_what_kills(key, new)

    def _without_what_kills(self, key: str, segments: Sequence[SegmentInfo]) -> list[SegmentInfo]:
        data = self._settings.data
        given_up = attempts_at(key, data.checkpoints_dir).given_up
        rest = untrained(segments, given_up, root=data.recordings_dir)
        if len(rest) < len(segments) and key not in self._given_up:
            self._given_up.add(key)
            metrics.FAILED.inc()
            log.error(
                "%s waits for new frames: each of its last %d runs was killed, for want of memory "
                "most likely; give the trainer more, or set training.batch_size lower, and train "
                "what there is by hand (sgaps train)",
                key,
                MOST_KILLED,
            )
        return rest

    async def _train(self, key: str, segments: Sequence[SegmentInfo]) -> RunReport:
        halt = threading.Event()
        halting = asyncio.create_task(self._halt(key, halt))
        self._training_key = key
        log.info("training %s on %d segments", key, len(segments))
        try:
            with metrics.TRAINING_RUNNING.track_inprogress():
                return await asyncio.to_thread(self._train_here, key, segments, halt)
        finally:
            self._training_key, self._progress = "", None
            halting.cancel()
            halt.set()  # where this was cancelled, its thread goes on

    async def _halt(self, key: str, halt: threading.Event) -> None:
        """Once told to stop. The run may not come to its end in time: for that too it has only what
        the others leave."""
        await self._stop.wait()
        halt.set()
        forgive(key, self._settings.data.checkpoints_dir)

    def _train_here(
        self, key: str, segments: Sequence[SegmentInfo], halt: threading.Event
    ) -> RunReport:
        from trainer.run import train_key  # noqa: PLC0415 - who waits does without PyTorch

        return train_key(key, segments, self._settings, stop=halt, report=self._note)

    def _note(self, progress: Progress) -> None:
        """Called by the thread that trains, after each step."""
        self._progress = progress
        metrics.TRAINING_STEPS.inc()
        metrics.TRAINING_LOSS.set(progress.loss)

    async def _announce(self, key: str, report: RunReport) -> None:
        if not report.finished:
            log.info("training of %s was stopped after %d steps", key, report.fit.steps)
            return
        metrics.VAL_PSNR_DB.labels("champion").set(report.champion.psnr_db)
        metrics.VAL_PSNR_DB.labels("challenger").set(report.challenger.psnr_db)
        gain = report.challenger.told_against(report.champion)
        if report.published is None:
            metrics.KEPT_CHAMPION.inc()
            log.info("%s keeps %s: %s", key, report.champion_version, gain)
            return
        metrics.PUBLISHED.inc()
        metrics.PUBLISHED_AT_SECS.set_to_current_time()
        version = report.published.model_version
        log.info("published %s of %s: %s, %d steps", version, key, gain, report.fit.steps)
        message = CheckpointPublished(
            checkpoint_key=key, model_version=version, val_psnr_db=report.challenger.psnr_db
        )
        try:
            await self._bus.write(Publish(message, MAX_ANNOUNCEMENTS))
        except BusError as error:
            # The reconstructors look into the folder now and then: nothing is lost.
            log.warning("could not announce %s: %s", version, error)


def enough_to_train(
    segments: Sequence[SegmentInfo], *, new: Sequence[SegmentInfo], settings: Settings
) -> bool:
    """Whether a key has enough new frames, and sessions to hold one out."""
    new_frames = sum(segment.frame_count for segment in new)
    sessions = {segment.session_id for segment in segments}
    training = settings.training
    return new_frames >= training.min_new_frames and len(sessions) >= training.min_sessions
