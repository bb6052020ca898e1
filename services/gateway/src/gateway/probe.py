"""The gateway's own frame: sent through all stages now and then, to see that they live."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import numpy as np

from sgaps.bus import Bus
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import BusError
from sgaps.keys import session_key
from sgaps.messages import FrameAccepted
from sgaps.metrics import gateway as metrics
from sgaps.packing import Float32, pack_pixels
from sgaps.probe import probe_session

log = logging.getLogger(__name__)

SIDE_PX = 64
SAMPLES_PER_SIDE = 7


class Probe:
    """One frame at a time; it is lost if it was not answered when the next one is due.

    Its ids are the time in milliseconds, so each is a new one, over restarts too, without being
    kept. They do not always grow: a clock may be set back.
    """

    def __init__(self, bus: Bus, *, gateway_id: str, interval_secs: float) -> None:
        self._bus = bus
        self._gateway_id = gateway_id
        self._session_id = probe_session(gateway_id)
        self._interval_secs = interval_secs
        self._frame_id = -1
        """Of the one that is on its way; -1 where none is."""
        self._sent_at_secs = 0.0
        self._recorded_frame_id: int | None = None
        """What the recorder had marked at the last look, -1 for nothing; None before the first."""
        self._is_well = True

    async def run(self, stop: asyncio.Event) -> None:
        """Probe until told to stop; with an interval of 0 never."""
        if not self._interval_secs:
            return
        # Nothing was answered yet, but the silence is no older than this.
        metrics.PROBE_ANSWERED_AT_SECS.set_to_current_time()
        metrics.PROBE_RECORDED_AT_SECS.set_to_current_time()
        while not stop.is_set():
            await self.turn()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval_secs)

    async def turn(self) -> None:
        """Give up the probe that was not answered, look what is recorded, send the next one."""
        if self._frame_id >= 0:
            self._lose(f"not answered within {self._interval_secs:g} s")
        try:
            await self._look_for_recorded()
            await self._send()
        except BusError as error:
            self._lose(str(error))

    async def _send(self) -> None:
        frame = probe_frame(self._gateway_id, _new_frame_id())
        # Before it is written: the answer may be here before the write has returned.
        self._frame_id, self._sent_at_secs = frame.frame_id, time.monotonic()
        await self._bus.publish(frame)

    async def _look_for_recorded(self) -> None:
        (fields,) = await self._bus.hashes([session_key(self._session_id)])
        before, marked = self._recorded_frame_id, int(fields.get("last_recorded_frame_id", -1))
        self._recorded_frame_id = marked
        # What is there at the first look is an earlier process's. Afterwards any change is the
        # recorder's work; a larger id it need not be.
        if before is not None and marked not in (before, -1):
            metrics.PROBE_RECORDED_AT_SECS.set_to_current_time()

    def take_answer(self, frame_id: int) -> None:
        """Coordinates have come for a probe; those that were given up are not waited for."""
        if frame_id != self._frame_id:
            return
        self._frame_id = -1
        metrics.PROBE_SECS.observe(time.monotonic() - self._sent_at_secs)
        metrics.PROBES_ANSWERED.inc()
        metrics.PROBE_ANSWERED_AT_SECS.set_to_current_time()
        if not self._is_well:
            log.info("probes are answered again")
        self._is_well = True

    def _lose(self, why: str) -> None:
        self._frame_id = -1
        metrics.PROBES_LOST.inc()
        if self._is_well:
            log.warning("a probe is lost: %s", why)
        self._is_well = False


def _new_frame_id() -> int:
    return int(time.time() * 1000)


def probe_frame(gateway_id: str, frame_id: int) -> FrameAccepted:
    """A small picture, brighter to the right, on a grid of samples."""
    return FrameAccepted(
        session_id=probe_session(gateway_id),
        checkpoint_key=DEFAULT_KEY,
        gateway_id=gateway_id,
        frame_id=frame_id,
        coordinate_set_id=0,
        width=SIDE_PX,
        height=SIDE_PX,
        samples_bytes=pack_pixels(_samples()),
        state_bytes=b"",
        client_time_secs=0.0,
        received_at_secs=time.time(),
    )


def _samples() -> Float32:
    """(N, 3): u, v, value."""
    line = (np.arange(SAMPLES_PER_SIDE, dtype=np.float32) + 0.5) / SAMPLES_PER_SIDE
    u, v = np.meshgrid(line, line)
    return np.column_stack([u.ravel(), v.ravel(), u.ravel()])
