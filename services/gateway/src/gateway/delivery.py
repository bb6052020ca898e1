"""Coordinates on their way out: from this gateway's stream to the sockets of its sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from gateway.probe import Probe
from gateway.session import Answer, Session, SessionManager
from sgaps import tracing
from sgaps.bus import Bus, Consumer, Count, Delivery, Effect, Outcome
from sgaps.errors import MessageError
from sgaps.logs import frame_ids
from sgaps.messages import CoordinatesChosen
from sgaps.metrics import gateway as metrics
from sgaps.metrics import stage
from sgaps.protocol.content import CoordinateSet, Importance
from sgaps.settings import BusSettings

log = logging.getLogger(__name__)

GROUP = "gateway"


class Deliverer:
    """Reads the stream of one gateway, in order, and never lets a session go backwards."""

    def __init__(
        self,
        bus: Bus,
        sessions: SessionManager,
        probe: Probe,
        *,
        gateway_id: str,
        settings: BusSettings,
    ) -> None:
        self._sessions = sessions
        self._probe = probe
        self.stream = CoordinatesChosen.stream_of(gateway_id)
        self.consumer = Consumer(
            bus,
            CoordinatesChosen,
            group=GROUP,
            name=gateway_id,
            settings=settings,
            handle=self.handle,
            stream=self.stream,
            stage="deliver",
        )

    async def handle(self, batch: Sequence[Delivery[CoordinatesChosen]]) -> Outcome:
        """Hand answers to their sessions; each is booked under what became of it."""
        with stage("deliver", len(batch)):
            return Outcome(answers={d.entry_id: self._end_of(d, len(batch)) for d in batch})

    def _end_of(self, delivery: Delivery[CoordinatesChosen], batch_size: int) -> list[Effect]:
        """What is booked of an answer: nothing of a probe's."""
        started_at_secs, chosen = time.time(), delivery.message
        if chosen.is_probe:
            self._probe.take_answer(chosen.frame_id)
            return []
        column = self._deliver(chosen)
        tracing.passed(
            "deliver",
            chosen,
            started_at_secs=started_at_secs,
            entry_id=delivery.entry_id,
            batch_size=batch_size,
            model_version=chosen.model_version,
            outcome=column,
        )
        return [Count(column)]

    def _deliver(self, chosen: CoordinatesChosen) -> str:
        """The column of the ledger that this answer belongs to."""
        session = self._sessions.get(chosen.session_id)
        if session is None or not session.connected:
            return "session_gone"
        try:
            answer = coordinate_set(chosen, session)
        except MessageError as error:
            ids = frame_ids(chosen)
            log.error("coordinates cannot be read: %s", error, extra=ids)  # noqa: TRY400 - one line
            return "undecodable"
        if chosen.frame_id <= session.last_answered_frame_id or not session.takes(answer.coords):
            return "out_of_order"
        return _hand_over(session, chosen, answer)


def _hand_over(session: Session, chosen: CoordinatesChosen, answer: CoordinateSet) -> str:
    session.last_answered_frame_id = chosen.frame_id
    is_sent = session.send(answer)
    latency_secs = time.time() - chosen.received_at_secs
    session.answers.append(Answer(chosen=chosen, latency_secs=latency_secs if is_sent else None))
    if not is_sent:
        return "client_slow"
    session.latencies_secs.append(latency_secs)
    session.frames_answered += 1
    metrics.END_TO_END_SECS.observe(latency_secs)
    metrics.FRAMES_DELIVERED.inc()
    if chosen.predicted_psnr_db is not None:
        metrics.PREDICTED_PSNR_DB.observe(chosen.predicted_psnr_db)
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
