"""Which sessions a gateway keeps."""

from __future__ import annotations

from gateway.session import Session, SessionManager
from sgaps.protocol.messages import Resolution
from sgaps.settings import Settings


def a_session(session_id: str) -> Session:
    return Session(
        session_id=session_id,
        checkpoint_key="doom",
        resolution=Resolution(width=64, height=48),
        client_name="",
        wants_importance=False,
        footprints=False,
        sample_count=500,
    )


def test_sessions_that_start_at_once_do_not_forget_one_another(settings: Settings) -> None:
    sessions = SessionManager(settings.server)
    for session_id in ("a", "b", "c"):  # none has its socket yet
        sessions.add(a_session(session_id))
    assert [session.session_id for session in sessions] == ["a", "b", "c"]


def test_a_session_that_nobody_resumed_in_time_is_forgotten(settings: Settings) -> None:
    sessions = SessionManager(settings.server)
    old = a_session("old")
    sessions.add(old)
    old.disconnected_at_secs -= settings.server.resume_window_secs + 1
    sessions.add(a_session("new"))
    assert [session.session_id for session in sessions] == ["new"]
