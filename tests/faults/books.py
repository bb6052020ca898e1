"""What a client may believe of its frames, from what the server said and in which order."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames of which some were refused; a refusal does not say which."""

    frame_ids: tuple[int, ...]
    refused: int


@dataclass
class Books:
    """The books of one player. A socket's messages are answered in the order they were sent:

    an acknowledged heartbeat tells that everything before it was handled, and each error between
    two acknowledged heartbeats is the refusal of one message between them.
    """

    certain: set[int] = field(default_factory=set)
    """Accepted."""
    refused: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    """Sent before a connection was lost; nobody said what became of them."""
    windows: list[Window] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    _open: deque[tuple[str, int]] = field(default_factory=deque)
    _open_errors: int = 0

    @property
    def accepted_count(self) -> int:
        """Frames that the server has acknowledged, as far as one can know."""
        return len(self.certain) + sum(len(w.frame_ids) - w.refused for w in self.windows)

    @property
    def is_settled(self) -> bool:
        return not any(kind == "frame" for kind, _ in self._open)

    def sent_frame(self, frame_id: int) -> None:
        self._open.append(("frame", frame_id))

    def sent_heartbeat(self, number: int) -> None:
        self._open.append(("beat", number))

    def took_error(self, code: str) -> None:
        self.errors[code] += 1
        self._open_errors += 1

    def took_heartbeat_ack(self, number: int) -> None:
        """Everything before this heartbeat was handled."""
        frame_ids, refused_beats = self._handled_before(number)
        refused = self._open_errors - refused_beats
        self._open_errors = 0
        if refused <= 0:
            self.certain.update(frame_ids)
        elif refused >= len(frame_ids):
            self.refused.update(frame_ids)
        else:
            self.windows.append(Window(frame_ids=tuple(frame_ids), refused=refused))

    def _handled_before(self, number: int) -> tuple[list[int], int]:
        """Frames before a heartbeat, and how many earlier heartbeats were passed over."""
        frame_ids, passed_over = [], 0
        while self._open:
            kind, value = self._open.popleft()
            if kind == "frame":
                frame_ids.append(value)
            elif value == number:
                break
            else:
                passed_over += 1
        return frame_ids, passed_over

    def lost_connection(self) -> None:
        self.unknown.update(value for kind, value in self._open if kind == "frame")
        self._open.clear()
        self._open_errors = 0

    def resumed(self, last_frame_id: int) -> None:
        """The server names the newest frame that it has of the session."""
        if last_frame_id in self.unknown:
            self.unknown.discard(last_frame_id)
            self.certain.add(last_frame_id)
