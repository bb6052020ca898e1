"""What the gateway knows of the system behind it, learned once a second in one place."""

from __future__ import annotations

import asyncio
import time

from gateway.serving import serving_map, version_for
from gateway.twins import Twins
from sgaps.bus import Bus, every_second
from sgaps.checkpoints import CHECKPOINTLESS
from sgaps.errors import BusError, BusFull, ErrorCode, ProtocolError
from sgaps.messages import FrameAccepted
from sgaps.service import Heartbeat, LiveServices

STALE_SECS = 5.0
REFUSAL_MEMORY_SECS = 10.0
RETRY_SECS = 1.0
SLOW_AT_BACKLOGS = 2
"""A recorder that keeps up leaves at most one backlog: what the reconstructors may still want."""
FULL_AT_BACKLOGS = 4

NOT_STORED = "the message was not stored"
NOT_KNOWN = "it is not known whether the frame was stored: go on with the next frame_id"


class Outlook:
    """The live services and how far the recorder is behind; at most a second or two old."""

    def __init__(self, bus: Bus, *, max_backlog: int, twins: Twins) -> None:
        self.twins = twins
        self._bus = bus
        self._max_backlog = max_backlog
        self._living = LiveServices(bus)
        self._services: list[Heartbeat] = []
        self._backlog = 0
        self._read_at_secs = float("-inf")
        self._refused_at_secs = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Look until told to stop; a missing broker is waited for."""
        await every_second(self.look, stop)

    async def look(self) -> None:
        """Learn how things are. Raises BusError."""
        self._services = await self._living.look()
        self.twins.look(self._services)
        self._backlog = await self._bus.length(FrameAccepted.STREAM)
        self._read_at_secs = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Whether the broker answered lately."""
        return time.monotonic() - self._read_at_secs < STALE_SECS

    @property
    def services(self) -> list[Heartbeat]:
        """The live ones; nobody is known to live while the broker is silent."""
        return self._services if self.is_fresh else []

    def serving_version(self, checkpoint_key: str) -> tuple[bool, str]:
        """Whether a checkpoint serves this key, and the version that does."""
        version = version_for(serving_map(self.services), checkpoint_key)
        return version not in CHECKPOINTLESS, version

    def target_fps(self, target_fps: float) -> float:
        """What clients are asked for: half while frames cannot be stored as fast as they come."""
        return target_fps / 2 if self._is_slow() else target_fps

    def check_room(self) -> None:
        """Raises ProtocolError OVERLOADED where too many frames wait for the recorder."""
        if self._backlog > FULL_AT_BACKLOGS * self._max_backlog:
            raise self.overloaded(f"the recorder is {self._backlog} frames behind")

    def overloaded(self, why: BusError | str, *, outcome: str = NOT_STORED) -> ProtocolError:
        """The refusal of what could not be stored, as far as is known."""
        self._refused_at_secs = time.monotonic()
        if isinstance(why, BusError):
            why = "storage is full" if isinstance(why, BusFull) else "storage does not answer"
        return ProtocolError(
            ErrorCode.OVERLOADED,
            f"{why}; {outcome}",
            retry_after_secs=RETRY_SECS,
        )

    def _is_slow(self) -> bool:
        return (
            time.monotonic() - self._refused_at_secs < REFUSAL_MEMORY_SECS
            or self._backlog > SLOW_AT_BACKLOGS * self._max_backlog
            or any(s.service == "recorder" and s.status.get("waiting") for s in self.services)
        )
