"""What people look at: one reader for each watched session, shared by all who look at it.

Nobody is waited for: a viewer that is slow misses frames, and a session that nobody looks at has
no reader, so its reconstructor encodes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import cast

from pydantic import ValidationError

from gateway.session import Answer, Places, Session, SessionManager
from sgaps.bus import Bus, Put
from sgaps.errors import BusError, MessageError
from sgaps.keys import watch_key
from sgaps.messages import CoordinatesChosen, ViewEncoded
from sgaps.protocol.content import PictureEncoding
from sgaps.protocol.views import (
    Counters,
    ImportanceShown,
    Parts,
    StagesMs,
    View,
    ViewHeader,
    encode_view,
    pack_samples,
    shown_state,
)
from sgaps.settings import Settings

log = logging.getLogger(__name__)

TURN_SECS = 1.0
"""The longest wait for a view; the watch is renewed between two turns."""
ANSWER_WAIT_SECS = 0.3
"""How long a picture waits for the coordinates that its frame is answered with."""
ANSWER_LOOK_SECS = 0.01
VIEWS_AT_ONCE = 8
ADDRESSES_AT_LEAST = 4
"""So many it takes to have all places of viewers."""


class Newest:
    """One place for what one viewer sees next: what is not taken in time is replaced."""

    trouble: BusError | None = None
    """Why nothing came, where the broker is why."""

    def __init__(self) -> None:
        self._view = b""
        self._there = asyncio.Event()

    def offer(self, view: bytes) -> None:
        self._view = view
        self._there.set()

    async def take(self, timeout_secs: float) -> bytes | None:
        """The newest view that was not taken yet; None where none comes in time."""
        try:
            async with asyncio.timeout(timeout_secs):
                await self._there.wait()
        except TimeoutError:
            return None
        self._there.clear()
        return self._view


@dataclass
class _Watched:
    """One session that somebody looks at."""

    viewers: set[Newest] = field(default_factory=set)
    frame_id: int = -1
    """The newest that was shown: two reconstructors may finish in another order."""
    reader: asyncio.Task[None] | None = None


class Views:
    """Who looks at which session of this gateway."""

    def __init__(self, bus: Bus, sessions: SessionManager, settings: Settings) -> None:
        self._bus = bus
        self._sessions = sessions
        self._places = Places(
            settings.server.max_viewers,
            ceil(settings.server.max_viewers / ADDRESSES_AT_LEAST),
            who="viewers",
            what="look at sessions",
        )
        self._watch_secs = settings.server.watch_secs
        self._missing_value = settings.sentinel_value
        self._watched: dict[str, _Watched] = {}

    @contextmanager
    def of(self, session_id: str, address: str) -> Iterator[Newest]:
        """Look at a session. Raises ProtocolError where too many look already."""
        with self._places.place(address):
            watched, newest = self._watch(session_id), Newest()
            watched.viewers.add(newest)
            try:
                yield newest
            finally:
                watched.viewers.discard(newest)

    def _watch(self, session_id: str) -> _Watched:
        """The session, which has a reader from now on."""
        watched = self._watched.get(session_id)
        if watched is None:
            watched = self._watched[session_id] = _Watched()
            watched.reader = asyncio.create_task(self._read(session_id, watched))
        return watched

    async def _read(self, session_id: str, watched: _Watched) -> None:
        """Ask for views and hand them on while somebody looks; a missing broker is waited for.

        It ends by itself: a blocking read that is cancelled costs its connection.
        """
        last_id = None
        try:
            while watched.viewers:
                try:
                    last_id = await self._turn(session_id, watched, last_id)
                except (BusError, MessageError, ValidationError) as error:
                    log.warning("no views of a session: %s", error)
                    for viewer in watched.viewers:
                        viewer.trouble = error if isinstance(error, BusError) else None
                    last_id = None  # a broker that came back may have lost the stream
                    await asyncio.sleep(TURN_SECS)
        finally:
            del self._watched[session_id]

    async def _turn(self, session_id: str, watched: _Watched, last_id: str | None) -> str:
        """Hand on the newest view that comes; up to where the stream was read."""
        stream = ViewEncoded.stream_of(session_id)
        last_id = last_id or await self._bus.last_id(stream)
        await self._bus.write(Put(watch_key(session_id), {"watched": b"1"}, self._watch_secs))
        entries = await self._bus.tail(stream, last_id, count=VIEWS_AT_ONCE, block_secs=TURN_SECS)
        if entries:
            await self._show(ViewEncoded.decode(entries[-1].data), watched)
        return entries[-1].entry_id if entries else last_id

    async def _show(self, encoded: ViewEncoded, watched: _Watched) -> None:
        """To everybody who looks, unless something newer was shown."""
        session = self._sessions.get(encoded.session_id)
        if session is None or encoded.frame_id <= watched.frame_id:
            return
        answer = await _answer_of(session, encoded.frame_id)
        shown = encode_view(view_of(encoded, session, answer, missing_value=self._missing_value))
        watched.frame_id = encoded.frame_id
        for viewer in watched.viewers:
            viewer.offer(shown)


async def _answer_of(session: Session, frame_id: int) -> Answer | None:
    """What the frame was answered with, or the one before it when that has been waited for."""
    deadline_secs = time.monotonic() + ANSWER_WAIT_SECS
    while session.last_answered_frame_id < frame_id and time.monotonic() < deadline_secs:
        await asyncio.sleep(ANSWER_LOOK_SECS)
    return session.answer_to(frame_id)


def view_of(
    encoded: ViewEncoded,
    session: Session,
    answer: Answer | None,
    *,
    missing_value: float,
) -> View:
    """All that is known of a frame. Raises MessageError, ValidationError."""
    samples = pack_samples(encoded.samples)
    importance = answer.chosen.importance if answer else b""
    return View(
        header=ViewHeader(
            session_id=session.session_id,
            frame_id=encoded.frame_id,
            model_version=encoded.model_version,
            width=encoded.width,
            height=encoded.height,
            predicted_psnr=encoded.predicted_psnr_db,
            measured_psnr=encoded.measured_psnr_db,
            sample_error=encoded.sample_error,
            received_at=encoded.received_at_secs,
            stages_ms=_stages_ms(encoded, answer),
            counters=counters(session),
            state=shown_state(encoded.state, missing_value),
            importance=_importance_shown(answer.chosen) if answer else None,
            true_frame=cast(PictureEncoding, encoded.keyframe_encoding)
            if encoded.keyframe
            else None,
            parts=Parts(
                reconstruction=len(encoded.reconstruction_png),
                samples=len(samples),
                importance=len(importance),
                true_frame=len(encoded.keyframe),
            ),
        ),
        reconstruction=encoded.reconstruction_png,
        samples=samples,
        importance=importance,
        true_frame=encoded.keyframe,
    )


def counters(session: Session) -> Counters:
    """What a session has been through."""
    waiting = max(0, session.last_frame_id - session.last_answered_frame_id)
    return Counters(
        frames_received=session.frames_received,
        frames_answered=session.frames_answered,
        frames_dropped=max(0, session.frames_received - session.frames_answered - waiting),
        messages_refused=session.messages_refused,
        bytes_up=session.bytes_up,
        bytes_down=session.bytes_down,
    )


def _stages_ms(encoded: ViewEncoded, answer: Answer | None) -> StagesMs:
    is_its_own = answer is not None and answer.chosen.frame_id == encoded.frame_id
    latency_secs = answer.latency_secs if answer and is_its_own else None
    before_secs = encoded.queue_secs + encoded.inference_secs
    return StagesMs(
        queue=encoded.queue_secs * 1000,
        inference=encoded.inference_secs * 1000,
        answer=None if latency_secs is None else max(0.0, latency_secs - before_secs) * 1000,
    )


def _importance_shown(chosen: CoordinatesChosen) -> ImportanceShown | None:
    if not chosen.importance:
        return None
    return ImportanceShown(
        frame_id=chosen.frame_id,
        width=chosen.importance_width,
        height=chosen.importance_height,
    )
