"""Which sessions a gateway keeps."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gateway.session import SessionManager
from gateway_sessions import a_session
from sgaps.protocol.content import CoordinateSet, WholeFrame
from sgaps.settings import Settings


def _takes(_: CoordinateSet) -> bool:
    return True


def test_sessions_that_start_at_once_do_not_forget_one_another(settings: Settings) -> None:
    sessions = SessionManager(settings.server)
    for session_id in ("a", "b", "c"):  # none has its socket yet
        sessions.add(a_session(session_id))
    assert [session.session_id for session in sessions] == ["a", "b", "c"]


def test_a_keyframe_goes_with_the_socket_that_sent_it(settings: Settings) -> None:
    """Else it would join the next frame of that id, sent by the socket that took over."""
    sessions, session = SessionManager(settings.server), a_session("a")
    sessions.add(session)
    sessions.connect(session, lambda _: True, lambda _: None)
    session.keyframe = WholeFrame(frame_id=1, encoding="png", data=b"whole")
    sessions.connect(session, lambda _: True, lambda _: None)
    assert session.keyframe is None


@pytest.mark.parametrize(
    ("footprints", "sides", "takes"),
    [
        (True, [1, 8], True),
        (True, [8, 8, 8], False),
        (False, [1, 1], True),
        (False, [1, 8], False),
        (False, [1, 1, 1], False),
        (False, [], True),
    ],
)
def test_a_session_takes_sets_that_its_frames_may_be_sampled_at(
    footprints: bool, sides: list[int], takes: bool
) -> None:
    session = a_session("a")
    session.footprints, session.sample_count = footprints, 2
    coords = np.array([[0.5, 0.5, side] for side in sides], np.float32).reshape(-1, 3)
    assert session.takes(coords) is takes


def test_a_session_that_nobody_resumed_in_time_is_forgotten(settings: Settings) -> None:
    sessions = SessionManager(settings.server)
    old = a_session("old")
    sessions.add(old)
    old.left_at_secs -= settings.server.resume_window_secs + 1
    sessions.add(a_session("new"))
    assert [session.session_id for session in sessions] == ["new"]


@pytest.mark.parametrize("set_by_secs", [-3600, 3600])
def test_a_clock_that_is_set_neither_keeps_nor_forgets_sessions(
    set_by_secs: float, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = SessionManager(settings.server)
    gone, here = a_session("gone"), a_session("here")
    for session in (gone, here):
        sessions.add(session)
        sessions.connect(session, _takes, lambda _: None)
    real = {"time": time.time, "monotonic": time.monotonic}
    sessions.disconnect(gone, _takes)
    later_secs = settings.server.resume_window_secs + 1
    monkeypatch.setattr(time, "monotonic", lambda: real["monotonic"]() + later_secs)
    monkeypatch.setattr(time, "time", lambda: real["time"]() + set_by_secs)
    sessions.disconnect(here, _takes)
    sessions.forget_expired()
    assert [session.session_id for session in sessions] == ["here"]
    monkeypatch.setattr(time, "time", lambda: real["time"]() + 2 * set_by_secs)
    sessions.forget_expired()
    assert [session.session_id for session in sessions] == ["here"]
