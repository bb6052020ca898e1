"""Coordinates on their way out: from this gateway's stream to the sockets of its sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

from gateway.session import Session, SessionManager
from sgaps import metrics
from sgaps.bus import Bus, Count, Entry, next_id
from sgaps.errors import BusError, MessageError
from sgaps.messages import CoordinatesChosen
from sgaps.protocol.content import CoordinateSet, Importance
from sgaps.settings import BusSettings

log = logging.getLogger(__name__)


class Deliverer:
    """Reads the stream of one gateway, in order, and never lets a session go backwards."""

    def __init__(
        self, bus: Bus, sessions: SessionManager, *, gateway_id: str, settings: BusSettings
    ) -> None:
        self._bus = bus
        self._sessions = sessions
        self._stream = CoordinatesChosen.stream_of(gateway_id)
        self._settings = settings
        self._after_id = bus.START
        self.last_turn_at_secs = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop; a missing broker is waited for."""
        waiting = False
        while not stop.is_set():
            try:
                await self.turn()
                waiting = False
            except BusError as error:
                if not waiting:
                    log.warning("delivery waits for the broker: %s", error)
                waiting = True
                await asyncio.sleep(0.5)

    async def turn(self) -> None:
        """Deliver one batch, book it, and trim what was read."""
        entries = await self._bus.tail(
            self._stream,
            self._after_id,
            count=self._settings.batch_size,
            block_secs=self._settings.block_secs,
        )
        self.last_turn_at_secs = time.monotonic()
        if not entries:
            return
        booked = Counter(self._deliver(entry) for entry in entries)
        self._after_id = entries[-1].entry_id
        await self._bus.write(*(Count(name, amount) for name, amount in booked.items()))
        await self._bus.trim(self._stream, next_id(self._after_id))

    def _deliver(self, entry: Entry) -> str:
        """Hand one answer to its session; the name of the ledger column it belongs to."""
        try:
            chosen = CoordinatesChosen.decode(entry.data)
            session = self._sessions.get(chosen.session_id)
            if session is None or not session.connected:
                return "session_gone"
            answer = coordinate_set(chosen, session)
        except MessageError as error:
            log.error("coordinates %s cannot be read: %s", entry.entry_id, error)  # noqa: TRY400
            return "undecodable"
        if chosen.frame_id <= session.last_answered_frame_id:
            return "out_of_order"
        return _hand_over(session, chosen, answer)


def _hand_over(session: Session, chosen: CoordinatesChosen, answer: CoordinateSet) -> str:
    session.last_answered_frame_id = chosen.frame_id
    session.coordinates = chosen
    if not session.send(answer):
        return "client_slow"
    latency_secs = time.time() - chosen.received_at_secs
    session.latencies_secs.append(latency_secs)
    session.frames_answered += 1
    metrics.END_TO_END_SECS.observe(latency_secs)
    metrics.FRAMES_DELIVERED.inc()
    return "delivered"


def coordinate_set(chosen: CoordinatesChosen, session: Session) -> CoordinateSet:
    """An answer as the session wants it. Raises MessageError."""
    importance = Importance(
        width=chosen.importance_width, height=chosen.importance_height, data=chosen.importance
    )
    return CoordinateSet(
        frame_id=chosen.frame_id,
        coordinate_set_id=chosen.coordinate_set_id,
        coords=chosen.coords,
        footprints=session.footprints,
        importance=importance if session.wants_importance else None,
        model_version=chosen.model_version,
        predicted_psnr_db=chosen.predicted_psnr_db,
    )
