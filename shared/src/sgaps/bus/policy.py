"""Which entries of a batch a consumer does, and which it lets go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from sgaps.messages import Message

SESSIONS_REMEMBERED = 10_000

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery(Generic[M]):
    """One decoded entry."""

    entry_id: str
    message: M


Split: TypeAlias = tuple[list[Delivery[M]], list[Delivery[M]]]
"""What is done, and what is superseded."""


class Policy(Protocol[M]):
    """Which entries are done."""

    lets_go: bool
    """Whether any may be superseded."""

    def split(self, deliveries: Sequence[Delivery[M]]) -> Split[M]:
        """Of what was read so far. What is kept may be split again, with what is read next."""

    def serve(self, kept: Sequence[Delivery[M]]) -> None:
        """Take notice of what is done in the end."""


class KeepEvery(Generic[M]):
    """The policy of what must not miss anything: nothing is superseded."""

    lets_go = False

    def split(self, deliveries: Sequence[Delivery[M]]) -> Split[M]:
        """All are kept."""
        return list(deliveries), []

    def serve(self, kept: Sequence[Delivery[M]]) -> None:
        """Nobody waited for a turn."""


class KeepNewest(Generic[M]):
    """The policy of inference: the newest frame of each session, of so many sessions at most.

    Who waited longest goes first. The others' frames are superseded too: their next ones are on
    their way, and a turn that did everybody would have only old frames to do, the older the more
    sessions there are. A probe takes nobody's place: it comes on top.
    """

    lets_go = True

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._served: OrderedDict[str, None] = OrderedDict()
        """Sessions in the order in which they were last served."""

    def split(self, deliveries: Sequence[Delivery[M]]) -> Split[M]:
        """The newest of those who waited longest."""
        newest: dict[str, Delivery[M]] = {}
        for delivery in deliveries:
            best = newest.get(_session(delivery))
            if best is None or _frame(delivery) >= _frame(best):
                newest[_session(delivery)] = delivery
        probes = [newest.pop(_session(d)) for d in list(newest.values()) if d.message.is_probe]
        kept = [*(newest[session] for session in self._first(newest)), *probes]
        kept_ids = {delivery.entry_id for delivery in kept}
        return kept, [d for d in deliveries if d.entry_id not in kept_ids]

    def _first(self, waiting: dict[str, Delivery[M]]) -> list[str]:
        if len(waiting) <= self._max_sessions:
            return list(waiting)
        turns = {session: turn for turn, session in enumerate(self._served)}
        in_turn = sorted(waiting, key=lambda session: turns.get(session, -1))
        return in_turn[: self._max_sessions]

    def serve(self, kept: Sequence[Delivery[M]]) -> None:
        """Their sessions had their turn."""
        for delivery in kept:
            if not delivery.message.is_probe:
                self._served[_session(delivery)] = None
                self._served.move_to_end(_session(delivery))
        while len(self._served) > SESSIONS_REMEMBERED:
            self._served.popitem(last=False)


# Only messages that belong to a session and are ordered in it are given to this policy.
def _session(delivery: Delivery[M]) -> str:
    return str(getattr(delivery.message, "session_id"))  # noqa: B009


def _frame(delivery: Delivery[M]) -> int:
    return int(getattr(delivery.message, "frame_id"))  # noqa: B009
