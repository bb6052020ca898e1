"""What the HTTP side answers with."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pydantic import BaseModel, TypeAdapter

from gateway.session import Session, SessionManager

LIST_SECS = 0.9
"""How old a list of all sessions may be: pages ask each second, and one alone gets new ones."""


class Health(BaseModel):
    status: str


class Ready(BaseModel):
    ready: bool
    missing: list[str]
    """What does not live, or is not ready."""
    why: dict[str, str]
    """What is wrong with each."""


class ServiceStatus(BaseModel):
    service: str
    instance: str
    uptime_secs: float
    ready: bool
    reason: str
    """Why it is not ready."""
    status: dict[str, object]


class SystemStatus(BaseModel):
    uptime_secs: float
    active_sessions: int
    frames_processed: int
    """Frames answered with coordinates since the broker's ledger began."""
    ledger: dict[str, int]
    """received = delivered + drops by reason + in_flight."""
    model_versions: dict[str, str]
    services: list[ServiceStatus]


class SessionStatus(BaseModel):
    session_id: str
    checkpoint_key: str
    client: str
    connected: bool
    started_at_secs: float
    duration_secs: float
    width: int
    height: int
    frames_received: int
    frames_answered: int
    messages_refused: int
    last_frame_id: int
    last_answered_frame_id: int
    bytes_up: int
    bytes_down: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    model_version: str | None
    predicted_psnr: float | None


class CheckpointStatus(BaseModel):
    checkpoint_key: str
    model_version: str
    val_psnr_db: float
    created_at: str
    serving: bool


def session_status(session: Session) -> SessionStatus:
    latencies_secs = sorted(session.latencies_secs)
    newest = session.coordinates
    return SessionStatus(
        session_id=session.session_id,
        checkpoint_key=session.checkpoint_key,
        client=session.client_name,
        connected=session.connected,
        started_at_secs=session.started_at_secs,
        duration_secs=session.duration_secs,
        width=session.resolution.width,
        height=session.resolution.height,
        frames_received=session.frames_received,
        frames_answered=session.frames_answered,
        messages_refused=session.messages_refused,
        last_frame_id=session.last_frame_id,
        last_answered_frame_id=session.last_answered_frame_id,
        bytes_up=session.bytes_up,
        bytes_down=session.bytes_down,
        latency_p50_ms=percentile(latencies_secs, 50) * 1000 if latencies_secs else None,
        latency_p99_ms=percentile(latencies_secs, 99) * 1000 if latencies_secs else None,
        model_version=newest.model_version if newest else None,
        predicted_psnr=newest.predicted_psnr_db if newest else None,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """As numpy has it, whose own takes 0.1 ms for however few numbers."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class SessionList:
    """The status of all sessions, made at most once in `LIST_SECS` for however many ask."""

    _ADAPTER = TypeAdapter(list[SessionStatus])

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._json = b""
        self._made_at_secs = float("-inf")

    def json(self) -> bytes:
        now_secs = time.monotonic()
        if now_secs - self._made_at_secs >= LIST_SECS:
            self._json = self._ADAPTER.dump_json([session_status(s) for s in self._sessions])
            self._made_at_secs = now_secs
        return self._json
