"""Sessions of this gateway: who plays, how far they are, what they were last told."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from gateway.limits import ClientLimits
from sgaps.bus import every_second
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.messages import CoordinatesChosen
from sgaps.packing import pack_footprints
from sgaps.protocol.content import CoordinateSet, WholeFrame
from sgaps.protocol.messages import Placement, Resolution
from sgaps.sampling.footprints import Coords, uv_steps
from sgaps.settings import ServerSettings

OUTBOX_SIZE = 64
FEWEST_SETS_KEPT = 16
SETS_KEPT_SECS = 2.0
"""So long a frame may be on its way to a set and back: a line on which it takes longer is no line
to play on."""
LATENCIES_KEPT = 200
ANSWERS_KEPT = 8
"""For the pictures of their frames, which come later."""
COME_BACK_SECS = 1.0
NO_FRAME = -1
"""Below every id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SentSet:
    """Coordinates as a client in binary reads them, and as the streams have them: packed once, and
    not with each of its frames."""

    count: int
    uv_bytes: bytes
    footprint_bytes: bytes

    @classmethod
    def of(cls, coords: Coords) -> Self:
        return cls(
            count=len(coords),
            uv_bytes=uv_steps(coords).tobytes(),
            footprint_bytes=pack_footprints(coords[:, 2]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a frame was answered with."""

    chosen: CoordinatesChosen
    latency_secs: float | None
    """From the frame to its answer at the socket; None where that had no room for it."""


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
    sample_count: int
    """Samples of a frame, as it was promised; small pictures have fewer."""
    limits: ClientLimits
    """What it has left of what is limited per second, over all its connections."""
    sets_kept: int = FEWEST_SETS_KEPT
    """Sets of coordinates that the client may still answer to."""
    placement: Placement = "adaptive"
    address: str = ""
    """Where the client was seen last."""
    started_at_secs: float = field(default_factory=time.time)
    connected: bool = False
    left_at_secs: float = field(default_factory=time.monotonic)
    """Monotonic, for a clock may be set. A new session counts as just left, or another one's start
    would forget it."""
    last_frame_id: int = NO_FRAME
    used_frame_id: int = NO_FRAME
    """The newest one that may have been written. It is past `last_frame_id` where the broker did
    not say: were its id taken again, two frames would share it, and the recorder keeps one."""
    last_answered_frame_id: int = NO_FRAME
    remembered_at_secs: float = float("-inf")
    """When the broker was last told of the session, on the monotonic clock."""
    frames_received: int = 0
    frames_answered: int = 0
    messages_refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=ANSWERS_KEPT))
    """The newest ones, in the order of their frames."""
    keyframe: WholeFrame | None = None
    """It waits for the frame that it belongs to."""
    sets: dict[int, SentSet] = field(default_factory=dict)
    """The newest sets that went out in binary, by their id: a frame in binary names one."""
    latencies_secs: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    send: Callable[[CoordinateSet], bool] = field(default=lambda _: False)
    """Hands an answer to the socket that owns the session; False if its outbox is full."""
    end: Callable[[ProtocolError], None] = field(default=lambda _: None)
    """Tells that socket why it is closed, before everything that waits in its outbox."""

    @property
    def coordinates(self) -> CoordinatesChosen | None:
        """The newest ones."""
        return self.answers[-1].chosen if self.answers else None

    def answer_to(self, frame_id: int) -> Answer | None:
        """The frame's own, or the newest one to a frame before it."""
        kept = reversed(self.answers)
        return next((answer for answer in kept if answer.chosen.frame_id <= frame_id), None)

    def remember(self, set_id: int, coords: Coords) -> None:
        """Keep a set that goes out, and forget the oldest."""
        self.sets[set_id] = SentSet.of(coords)
        while len(self.sets) > self.sets_kept:
            del self.sets[next(iter(self.sets))]

    def release_keyframe(self, frame_id: int) -> None:
        """Let go of one whose frame has been: it is large, and each session may hold one."""
        if self.keyframe is not None and self.keyframe.frame_id <= frame_id:
            self.keyframe = None

    def takes(self, coords: Coords) -> bool:
        """Whether frames sampled there would be accepted: a resumed session may want other sets
        than the one that its frames of before are answered with."""
        return len(coords) <= self.sample_count and (
            self.footprints or bool((coords[:, 2] == 1).all())
        )

    @property
    def duration_secs(self) -> float:
        away_secs = 0.0 if self.connected else time.monotonic() - self.left_at_secs
        return time.time() - away_secs - self.started_at_secs


class SessionManager:
    """The sessions of one gateway; the disconnected ones wait to be resumed, then go."""

    def __init__(self, server: ServerSettings) -> None:
        self._sessions: dict[str, Session] = {}
        self._max_sessions = server.max_sessions
        self._max_per_address = server.max_sessions_per_address
        self._resume_window_secs = server.resume_window_secs

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    @property
    def connected_count(self) -> int:
        return sum(session.connected for session in self._sessions.values())

    def check_room(self, address: str) -> None:
        """Raises ProtocolError TOO_MANY_SESSIONS where there is none for a new session."""
        self.forget_expired()
        if self.connected_count >= self._max_sessions:
            raise self._full(retry_after_secs=self._resume_window_secs)
        # Those that can be resumed count too, or somebody could leave any number of them behind.
        if sum(s.address == address for s in self._sessions.values()) >= self._max_per_address:
            raise ProtocolError(
                ErrorCode.TOO_MANY_SESSIONS,
                f"your address may have {self._max_per_address} sessions",
                retry_after_secs=self._resume_window_secs,
            )

    def check_resumable(self, session: Session) -> None:
        """Raises ProtocolError TOO_MANY_SESSIONS where others took its place meanwhile.

        One that still has a socket keeps its place: it changes sockets.
        """
        if not session.connected and self.connected_count >= self._max_sessions:
            # It may not wait for longer than it is remembered.
            raise self._full(retry_after_secs=COME_BACK_SECS)

    def _full(self, *, retry_after_secs: float) -> ProtocolError:
        return ProtocolError(
            ErrorCode.TOO_MANY_SESSIONS,
            f"this gateway serves {self._max_sessions} sessions",
            retry_after_secs=retry_after_secs,
        )

    def add(self, session: Session) -> None:
        """Take a session in. Raises ProtocolError TOO_MANY_SESSIONS."""
        self.check_room(session.address)
        self._sessions[session.session_id] = session

    def connect(
        self,
        session: Session,
        send: Callable[[CoordinateSet], bool],
        end: Callable[[ProtocolError], None],
    ) -> None:
        """Give a session to a socket; a socket that still had it is told so."""
        if session.connected:
            session.end(
                ProtocolError(
                    ErrorCode.SESSION_TAKEN_OVER, "the session was resumed on another connection"
                )
            )
        session.connected = True
        session.keyframe = None  # of the socket that had it
        session.send, session.end = send, end

    def disconnect(self, session: Session, send: Callable[[CoordinateSet], bool]) -> None:
        """Clean up after a socket, unless another one has the session by now."""
        if session.send == send:  # bound methods are equal, never identical
            session.connected = False
            session.left_at_secs = time.monotonic()
            session.keyframe = None

    def say_goodbye(self) -> int:
        """Tell every client to come back in a moment; how many there were."""
        goodbye = ProtocolError(
            ErrorCode.SHUTTING_DOWN,
            "the gateway is stopping; the session can be resumed",
            retry_after_secs=COME_BACK_SECS,
        )
        playing = [session for session in self if session.connected]
        for session in playing:
            session.end(goodbye)
        return len(playing)

    async def run(self, stop: asyncio.Event) -> None:
        """Forget every second who was not resumed in time, until told to stop."""

        async def forget() -> None:
            self.forget_expired()

        await every_second(forget, stop)

    def forget_expired(self) -> None:
        """Drop sessions that nobody resumed in time."""
        limit_secs = time.monotonic() - self._resume_window_secs
        for session in self:
            if not session.connected and session.left_at_secs < limit_secs:
                del self._sessions[session.session_id]


class Places:
    """What only so many may do at once, and so many of one address."""

    def __init__(self, most: int, most_per_address: int, *, who: str, what: str) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._who = who
        self._what = what
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Be here. Raises ProtocolError TOO_MANY_SESSIONS where there is no place."""
        if self._taken.total() >= self._most:
            raise self._too_many(self._who)
        if self._taken[address] >= self._most_per_address:
            raise self._too_many(f"{self._who} from your address")
        self._taken[address] += 1
        try:
            yield
        finally:
            self._taken -= Counter((address,))  # which forgets an address that nobody is here from

    def _too_many(self, who: str) -> ProtocolError:
        return ProtocolError(
            ErrorCode.TOO_MANY_SESSIONS,
            f"too many {who} {self._what}",
            retry_after_secs=COME_BACK_SECS,
        )


def new_session_id() -> str:
    """An id nobody can guess, since it is what a client resumes with."""
    return secrets.token_hex(12)
