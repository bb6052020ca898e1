"""Sessions of this gateway: who plays, how far they are, what they were last told."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.messages import CoordinatesChosen
from sgaps.protocol.content import CoordinateSet, WholeFrame
from sgaps.protocol.messages import Error, Resolution
from sgaps.sampling.footprints import Coords

OUTBOX_SIZE = 64
SETS_KEPT = 16
"""Sets of coordinates that a client may still answer to."""
LATENCIES_KEPT = 200
COME_BACK_SECS = 1.0


@dataclass(kw_only=True)
class Session:
    """One playing client. Only the socket that owns it and the deliverer change it."""

    session_id: str
    checkpoint_key: str
    resolution: Resolution
    client_name: str
    wants_importance: bool
    footprints: bool
    """Whether the client samples squares."""
    started_at_secs: float = field(default_factory=time.time)
    connected: bool = False
    disconnected_at_secs: float = 0.0
    last_frame_id: int = -1
    last_answered_frame_id: int = -1
    frames_received: int = 0
    frames_answered: int = 0
    frames_refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    coordinates: CoordinatesChosen | None = None
    keyframe: WholeFrame | None = None
    """It waits for the frame that it belongs to."""
    sets: dict[int, Coords] = field(default_factory=dict)
    """The newest sets that went out in binary, by their id: a frame in binary names one."""
    latencies_secs: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    send: Callable[[CoordinateSet | Error], bool] = field(default=lambda _: False)
    """Hands a message to the socket that owns the session; False if its outbox is full."""

    def remember(self, set_id: int, coords: Coords) -> None:
        """Keep a set that goes out, and forget the oldest."""
        self.sets[set_id] = coords
        while len(self.sets) > SETS_KEPT:
            del self.sets[next(iter(self.sets))]

    @property
    def duration_secs(self) -> float:
        return (time.time() if self.connected else self.disconnected_at_secs) - self.started_at_secs


class SessionManager:
    """The sessions of one gateway; the disconnected ones wait to be resumed, then go."""

    def __init__(self, *, max_sessions: int, resume_window_secs: float) -> None:
        self._sessions: dict[str, Session] = {}
        self._max_sessions = max_sessions
        self._resume_window_secs = resume_window_secs

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    @property
    def connected_count(self) -> int:
        return sum(session.connected for session in self._sessions.values())

    def add(self, session: Session) -> None:
        """Take a session in. Raises ProtocolError TOO_MANY_SESSIONS."""
        self.forget_expired()
        if self.connected_count >= self._max_sessions:
            raise ProtocolError(
                ErrorCode.TOO_MANY_SESSIONS,
                f"this gateway serves {self._max_sessions} sessions",
                fatal=True,
                retry_after_secs=self._resume_window_secs,
            )
        self._sessions[session.session_id] = session

    def connect(self, session: Session, send: Callable[[CoordinateSet | Error], bool]) -> None:
        """Give a session to a socket; a socket that still had it is told so."""
        if session.connected:
            session.send(
                Error(
                    code=ErrorCode.SESSION_TAKEN_OVER,
                    message="the session was resumed on another connection",
                    fatal=True,
                )
            )
        session.connected = True
        session.send = send

    def disconnect(self, session: Session, send: Callable[[CoordinateSet | Error], bool]) -> None:
        """Clean up after a socket, unless another one has the session by now."""
        if session.send == send:  # bound methods are equal, never identical
            session.connected = False
            session.disconnected_at_secs = time.time()
            session.keyframe = None

    def say_goodbye(self) -> int:
        """Tell every client to come back in a moment; how many there were."""
        goodbye = Error(
            code=ErrorCode.SHUTTING_DOWN,
            message="the gateway is stopping; the session can be resumed",
            fatal=True,
            retry_after_secs=COME_BACK_SECS,
        )
        return sum(session.connected and session.send(goodbye) for session in self)

    def forget_expired(self) -> None:
        """Drop sessions that nobody resumed in time."""
        limit_secs = time.time() - self._resume_window_secs
        for session in self:
            if not session.connected and session.disconnected_at_secs < limit_secs:
                del self._sessions[session.session_id]


def new_session_id() -> str:
    """An id nobody can guess, since it is what a client resumes with."""
    return secrets.token_hex(12)
