"""What the HTTP side answers with."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel

from gateway.session import Session


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
    latencies_ms = np.array(session.latencies_secs) * 1000
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
        latency_p50_ms=float(np.percentile(latencies_ms, 50)) if latencies_ms.size else None,
        latency_p99_ms=float(np.percentile(latencies_ms, 99)) if latencies_ms.size else None,
        model_version=newest.model_version if newest else None,
        predicted_psnr=newest.predicted_psnr_db if newest else None,
    )
