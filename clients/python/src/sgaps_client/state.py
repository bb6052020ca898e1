"""What a client knows of its sessions. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sgaps.errors import ErrorCode, ProtocolError, SettingsError
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import (
    Error,
    HeartbeatAck,
    Resolution,
    SessionStart,
    SessionStartAck,
)
from sgaps_client.address import check_url

Noted = TypeVar("Noted")

# Refusals of frames. A heartbeat can be refused as `overloaded` too, and the message does not say
# what it refuses: see `SessionAccount.book_heartbeat`.
FRAME_REFUSALS = frozenset(
    {
        ErrorCode.FRAME_ID_BACKWARDS,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.RESOLUTION_MISMATCH,
        ErrorCode.STATE_TOO_LONG,
        ErrorCode.TOO_MANY_SAMPLES,
        ErrorCode.UNKNOWN_SET,
    }
)

NEWEST_KEPT = 100_000
"""Of what is noted again and again: a client may run for weeks."""
BACKLOGGED_SECS = 1.0
"""A heartbeat that waits so much longer than the quickest one did waits behind frames."""


def note(noted: list[Noted], *new: Noted) -> None:
    """Append to a list, of which only the newest stay."""
    noted.extend(new)
    del noted[:-NEWEST_KEPT]


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """What a session is about. What no server takes is refused where the config is made."""

    url: str
    checkpoint_key: str
    width: int
    height: int
    state_dim: int
    """Told to the server; how many values are sent is what its acknowledgement says."""
    auth_token: str | None = None
    subprotocols: tuple[str, ...] = (binary_codec.SUBPROTOCOL, json_codec.SUBPROTOCOL)
    """What is offered, the best first."""

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        check_url(self.url)
        try:
            SessionStart(
                checkpoint_key=self.checkpoint_key,
                resolution=Resolution(width=self.width, height=self.height),
                max_state_dim=self.state_dim,
                auth_token=self.auth_token,
            )
        except ValidationError as error:
            (first, *_) = error.errors(include_url=False)
            names = {"max_state_dim": "state_dim"}
            name = str(first["loc"][-1])
            raise SettingsError(f"{names.get(name, name)}: {first['msg']}") from error


@dataclass(kw_only=True)
class SessionAccount:
    """What became of the frames of one session. The server acknowledges no frame singly: it says
    what it refused, how far the recorder is, and on a resume which frame it saw last.
    """

    session_id: str
    next_frame_id: int = 0
    sent: int = 0
    resumed: int = 0
    last_answered_frame_id: int = -1
    last_recorded_frame_id: int = -1
    _refused: set[int] = field(default_factory=set)
    """Frame ids; a refusal names none, so it is taken for one of the newest frame."""
    _doubtful: list[int] = field(default_factory=list)
    """Of the refused: those that a heartbeat without an answer may have been refused for."""
    _lost: set[int] = field(default_factory=set)
    _heartbeats: dict[float, float] = field(default_factory=dict)
    """Timestamps of those not answered yet, the oldest first: monotonic time each was sent at."""
    _quickest_secs: float | None = None
    """Of the heartbeats of this connection, the shortest time to an answer."""

    @property
    def refused(self) -> int:
        return len(self._refused)

    @property
    def lost(self) -> int:
        """Frames sent into a connection that broke before the server read them."""
        return len(self._lost)

    @property
    def accepted(self) -> int:
        """Frames the gateway took in; certain once a heartbeat sent after them is answered."""
        return self.sent - self.refused - self.lost

    @property
    def recorded(self) -> int:
        """Frames the recorder has on disk."""
        last = self.last_recorded_frame_id
        return last + 1 - sum(frame_id <= last for frame_id in self._refused | self._lost)

    @property
    def is_complete(self) -> bool:
        """Whether the last frame that the gateway took in is answered and on disk.

        Of the frames before it some may never be answered: superseded by a newer one.
        """
        known = min(self.last_answered_frame_id, self.last_recorded_frame_id)
        return known >= self._newest_taken_frame_id()

    def book_sent(self) -> None:
        self.sent += 1
        self.next_frame_id += 1

    def book_refused(self) -> None:
        """The server refused a frame, as far as can be told."""
        newest = self._newest_taken_frame_id()
        if newest < 0:
            return
        self._refused.add(newest)
        if len(self._doubtful) < len(self._heartbeats):
            self._doubtful.append(newest)

    def is_backlogged(self, *, now_secs: float) -> bool:
        """Whether the network is slower than the game, at a monotonic time.

        Only answers can tell: a kernel takes megabytes, minutes of frames, before a socket is full.
        """
        oldest_sent_at_secs = next(iter(self._heartbeats.values()), now_secs)
        usual_secs = 0.0 if self._quickest_secs is None else self._quickest_secs
        return now_secs - oldest_sent_at_secs > usual_secs + BACKLOGGED_SECS

    def book_heartbeat_sent(self, timestamp: float, *, now_secs: float) -> None:
        self._heartbeats[timestamp] = now_secs

    def book_heartbeat(self, ack: HeartbeatAck, *, now_secs: float) -> None:
        """The server answers in order: older heartbeats without an answer were what it refused."""
        self.last_recorded_frame_id = max(self.last_recorded_frame_id, ack.last_recorded_frame_id)
        if ack.timestamp not in self._heartbeats:
            return
        while (oldest := next(iter(self._heartbeats))) != ack.timestamp:
            del self._heartbeats[oldest]
            if self._refused:
                self._refused.remove(max(self._refused))
        took_secs = now_secs - self._heartbeats.pop(oldest)
        if self._quickest_secs is None or took_secs < self._quickest_secs:
            self._quickest_secs = took_secs
        self._doubtful.clear()

    def book_lost(self, *, after_frame_id: int) -> None:
        """The connection broke, and the server knows nothing of what was sent after this frame."""
        self._heartbeats.clear()
        self._quickest_secs = None  # the next one may go another way
        # Taken for the heartbeats'. Beyond this frame it makes no difference: all are lost there.
        self._refused.difference_update(i for i in self._doubtful if i < after_frame_id)
        self._doubtful.clear()
        self._refused.discard(after_frame_id)  # it was stored after all
        self._lost |= set(range(after_frame_id + 1, self.next_frame_id)) - self._refused
        self.next_frame_id = max(self.next_frame_id, after_frame_id + 1)

    def book_gone(self) -> None:
        """The server forgot the session: it had what it answered or recorded, for all we know."""
        self.book_lost(after_frame_id=max(self.last_answered_frame_id, self.last_recorded_frame_id))

    def _newest_taken_frame_id(self) -> int:
        frame_id = self.next_frame_id - 1
        while frame_id in self._refused or frame_id in self._lost:
            frame_id -= 1
        return frame_id


@dataclass(kw_only=True)
class ClientState:
    """What the server told last, and what went over the wire."""

    accounts: list[SessionAccount] = field(default_factory=list)
    """The sessions of this client, the present one last."""
    coords: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 3), np.float32))
    """(N, 3): u, v, footprint in pixels, v down: the newest set."""
    coordinate_set_id: int = 0
    model_version: str = "none"
    max_state_dim: int = 0
    target_fps: float = 10.0
    keyframe_interval: int = 0
    paused_until_secs: float = 0.0
    """Monotonic time before which the server wants no frames."""
    frames_dropped: int = 0
    """Frames that were not sent: the network was slower than the game."""
    bytes_up: int = 0
    bytes_down: int = 0
    refusals: list[str] = field(default_factory=list)
    """Their codes, the newest NEWEST_KEPT."""

    @property
    def account(self) -> SessionAccount:
        """The present session, once there is one."""
        return self.accounts[-1]

    def take_ack(self, ack: SessionStartAck) -> None:
        """A session began, or goes on after a lost connection. Raises ProtocolError."""
        if not ack.resumed:
            self.accounts.append(SessionAccount(session_id=ack.session_id))
        else:
            if not self._can_go_on(ack):
                raise ProtocolError(ErrorCode.BAD_MESSAGE, "resumed is not what this client began")
            self.account.resumed += 1
            self.account.book_lost(after_frame_id=ack.last_frame_id)
        self.max_state_dim = ack.max_state_dim
        self.target_fps = ack.target_fps
        self.keyframe_interval = ack.keyframe_interval
        self.model_version = ack.model_version

    def _can_go_on(self, ack: SessionStartAck) -> bool:
        """Whether a server can have resumed this: the same session, no frame that was not sent."""
        return bool(self.accounts) and (
            ack.session_id == self.account.session_id
            and ack.last_frame_id < self.account.next_frame_id
        )

    def take_coordinates(self, answer: CoordinateSet) -> None:
        """A newer set; the codecs let none through that lies outside the picture."""
        self.coords = answer.coords
        self.coordinate_set_id = answer.coordinate_set_id
        self.model_version = answer.model_version
        self.account.last_answered_frame_id = max(
            self.account.last_answered_frame_id, answer.frame_id
        )

    def take_heartbeat(self, ack: HeartbeatAck, *, now_secs: float) -> None:
        self.account.book_heartbeat(ack, now_secs=now_secs)
        self.target_fps = ack.target_fps

    def take_error(self, error: Error, *, now_secs: float) -> None:
        """A refusal, and the pause the server asks for."""
        note(self.refusals, error.code)
        if error.code in FRAME_REFUSALS:
            self.account.book_refused()
        if error.retry_after_secs is not None:
            self.paused_until_secs = now_secs + error.retry_after_secs
