"""What a client knows of its sessions. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.messages import Error, HeartbeatAck, SessionStartAck, UvCoordinates

# Refusals of frames. (A heartbeat can be refused as `overloaded` too and is then counted here;
# the message does not say what it refuses.)
FRAME_REFUSALS = frozenset(
    {
        ErrorCode.FRAME_ID_BACKWARDS,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.RESOLUTION_MISMATCH,
        ErrorCode.STATE_TOO_LONG,
        ErrorCode.TOO_MANY_SAMPLES,
    }
)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """What a session is about."""

    url: str
    checkpoint_key: str
    width: int
    height: int
    state_dim: int
    auth_token: str | None = None
    wants_importance: bool = False


@dataclass(kw_only=True)
class SessionAccount:
    """What became of the frames of one session. The server acknowledges no frame singly: it says
    what it refused, how far the recorder is, and on a resume which frame it saw last.
    """

    session_id: str
    next_frame_id: int = 0
    sent: int = 0
    refused: int = 0
    lost: int = 0
    """Sent into a connection that broke before the server read them."""
    resumed: int = 0
    last_answered_frame_id: int = -1
    last_recorded_frame_id: int = -1
    _lost_up_to_frame_id: int = -1

    @property
    def accepted(self) -> int:
        """Frames the gateway took in; certain once a heartbeat sent after them is answered."""
        return max(0, self.sent - self.refused - self.lost)

    @property
    def recorded(self) -> int:
        """Frames the recorder has on disk."""
        return min(self.accepted, self.last_recorded_frame_id + 1)

    @property
    def is_complete(self) -> bool:
        """Whether the last frame is answered and on disk."""
        last_frame_id = self.next_frame_id - 1
        return min(self.last_answered_frame_id, self.last_recorded_frame_id) >= last_frame_id

    def book_sent(self) -> None:
        self.sent += 1
        self.next_frame_id += 1

    def book_lost(self, *, after_frame_id: int) -> None:
        """The server knows nothing of what was sent after this frame."""
        known = max(after_frame_id, self._lost_up_to_frame_id)
        self.lost += max(0, self.next_frame_id - 1 - known)
        self.next_frame_id = max(self.next_frame_id, after_frame_id + 1)
        self._lost_up_to_frame_id = self.next_frame_id - 1


@dataclass(kw_only=True)
class ClientState:
    """What the server told last, and what went over the wire."""

    accounts: list[SessionAccount] = field(default_factory=list)
    """The sessions of this client, the present one last."""
    coords: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))
    """(N, 2) UV, v down: the newest set."""
    coordinate_set_id: int = 0
    model_version: str = "none"
    predicted_psnr_db: float | None = None
    max_state_dim: int = 0
    target_fps: float = 10.0
    keyframe_interval: int = 0
    paused_until_secs: float = 0.0
    """Monotonic time before which the server wants no frames."""
    bytes_up: int = 0
    bytes_down: int = 0
    refusals: list[str] = field(default_factory=list)

    @property
    def account(self) -> SessionAccount:
        """The present session, once there is one."""
        return self.accounts[-1]

    def take_ack(self, ack: SessionStartAck) -> None:
        """A session began, or goes on after a lost connection."""
        if not ack.resumed:
            self.accounts.append(SessionAccount(session_id=ack.session_id))
        else:
            self.account.resumed += 1
            self.account.book_lost(after_frame_id=ack.last_frame_id)
        self.max_state_dim = ack.max_state_dim
        self.target_fps = ack.target_fps
        self.keyframe_interval = ack.keyframe_interval
        self.model_version = ack.model_version

    def take_coordinates(self, answer: UvCoordinates) -> None:
        """Raises ProtocolError for coordinates outside the picture."""
        coords = np.array(answer.coords, np.float32).reshape(-1, 2)
        if not ((coords >= 0) & (coords <= 1)).all():
            raise ProtocolError(ErrorCode.BAD_MESSAGE, "the server sent UVs outside 0..1")
        self.coords = coords
        self.coordinate_set_id = answer.coordinate_set_id
        self.model_version = answer.model_version
        self.predicted_psnr_db = answer.predicted_psnr
        self.account.last_answered_frame_id = max(
            self.account.last_answered_frame_id, answer.frame_id
        )

    def take_heartbeat(self, ack: HeartbeatAck) -> None:
        self.account.last_recorded_frame_id = ack.last_recorded_frame_id
        self.target_fps = ack.target_fps

    def take_error(self, error: Error, *, now_secs: float) -> None:
        """A refusal, and the pause the server asks for."""
        self.refusals.append(error.code)
        self.account.refused += error.code in FRAME_REFUSALS
        if error.retry_after_secs is not None:
            self.paused_until_secs = now_secs + error.retry_after_secs
