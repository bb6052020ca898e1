"""How much one client may ask for. No I/O."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.settings import Settings

FIRST_MESSAGE_BYTES = 4096
"""Nobody needs a longer session_start."""
FRAME_BYTES = 32 * 1024
"""Of a frame in JSON, which is the longer form."""
HEARTBEATS_PER_SEC = 10
REFUSALS_PER_SEC = 5
REFUSALS_AT_ONCE = 300
"""Who goes beyond is not worth answering any more."""
NOBODYS_FAULT = frozenset({ErrorCode.OVERLOADED, ErrorCode.UNKNOWN_SET})
NUMBERS_OF_A_PIXEL = 4
OTHER_VALUES = 64
"""Fields of a message beside its pixels and its state, with room to spare."""


def sent_bytes(raw: str | bytes) -> int:
    """How long a message was on the line."""
    return len(raw) if isinstance(raw, bytes) or raw.isascii() else len(raw.encode())


@dataclass
class Bucket:
    """A token bucket; it starts full."""

    per_sec: float
    capacity: float
    tokens: float = field(init=False)
    updated_at_secs: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = self.capacity

    def take(self, amount: float = 1) -> float:
        """Use tokens; 0, or where there are too few, the seconds until there would be enough."""
        now_secs = time.monotonic()
        refill = (now_secs - self.updated_at_secs) * self.per_sec
        self.tokens = min(self.capacity, self.tokens + refill)
        self.updated_at_secs = now_secs
        if self.tokens < amount:
            return (amount - self.tokens) / self.per_sec
        self.tokens -= amount
        return 0


def _each_second(count: float) -> Bucket:
    return Bucket(count, max(1.0, count))


class ClientLimits:
    """What a session has left of everything that is limited. All methods raise ProtocolError."""

    def __init__(self, settings: Settings) -> None:
        server = settings.server
        self.max_state_dim = settings.max_state_dim
        self._max_values = (
            NUMBERS_OF_A_PIXEL * server.max_samples + settings.max_state_dim + OTHER_VALUES
        )
        self._frames = _each_second(server.max_frame_rate)
        # A keyframe costs the decoding of a picture.
        self._keyframes = _each_second(server.max_frame_rate / max(1, server.keyframe_interval))
        self._messages = _each_second(2 * server.max_frame_rate + HEARTBEATS_PER_SEC)
        self._bytes = _each_second(
            2 * server.max_message_bytes + FRAME_BYTES * server.max_frame_rate
        )
        self._refusals = Bucket(REFUSALS_PER_SEC, REFUSALS_AT_ONCE)

    def take_message(self, raw: str | bytes, size_bytes: int) -> None:
        """Any message, before it is looked at: reading one costs more than sending it."""
        wait_secs = max(self._messages.take(), self._bytes.take(size_bytes))
        if wait_secs:
            raise _too_fast("messages", wait_secs)
        # To count commas takes no time beside building a million values. A short message is not
        # worth it: what it has too much of is refused when it has been read.
        is_long = len(raw) > FRAME_BYTES
        if is_long and isinstance(raw, str) and raw.count(",") > self._max_values:
            raise ProtocolError(
                ErrorCode.TOO_MANY_SAMPLES, f"a message holds at most {self._max_values} values"
            )

    def take_frame(self) -> None:
        """A frame."""
        wait_secs = self._frames.take()
        if wait_secs:
            raise _too_fast("frames", wait_secs)

    def take_keyframe(self) -> None:
        """A keyframe. Its own code: what is refused is the picture, and no frame."""
        wait_secs = self._keyframes.take()
        if wait_secs:
            raise ProtocolError(
                ErrorCode.BAD_KEYFRAME,
                "keyframes come faster than they were asked for",
                retry_after_secs=wait_secs,
            )

    def take_refusal(self, refused: ProtocolError) -> None:
        """A message that is refused. What the server cannot store is not the client's fault, nor is
        a set that was forgotten while a frame was on a long line."""
        if refused.code not in NOBODYS_FAULT and self._refusals.take():
            raise ProtocolError(
                ErrorCode.RATE_LIMITED, f"too many refused messages; the last: {refused}"
            )


def _too_fast(what: str, wait_secs: float) -> ProtocolError:
    return ProtocolError(
        ErrorCode.RATE_LIMITED, f"too many {what} in a second", retry_after_secs=wait_secs
    )
