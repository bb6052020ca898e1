"""Gateways that were given one id by mistake: each takes answers that are the other's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sgaps.service import HEARTBEAT_TTL_SECS, Heartbeat

log = logging.getLogger(__name__)


class Twins:
    """Whether another live instance has this gateway's `server.gateway_id`.

    A container may come back under another name while the heartbeat of its last life is still
    there: that one stands still.
    """

    def __init__(self, gateway_id: str, *, instance: str) -> None:
        self._gateway_id = gateway_id
        self._instance = instance
        self._first_beats_secs: dict[str, float] = {}
        """By instance: when the first heartbeat that was seen of it was made, by its own clock."""
        self.why = ""
        """Why this gateway is not ready; empty where it is alone."""

    def look(self, services: Sequence[Heartbeat]) -> None:
        """Learn from the heartbeats of this second."""
        others = [service for service in services if self._has_our_id(service)]
        self._first_beats_secs = {
            other.instance: min(
                other.at_secs, self._first_beats_secs.get(other.instance, other.at_secs)
            )
            for other in others
        }
        twin = next(filter(self._has_lived, others), None)
        why = self._told(twin) if twin else ""
        if why and not self.why:
            log.error("%s", why)
        self.why = why

    def _has_our_id(self, other: Heartbeat) -> bool:
        return (
            other.service == "gateway"
            and other.instance != self._instance
            and other.status.get("gateway_id") == self._gateway_id
        )

    def _has_lived(self, other: Heartbeat) -> bool:
        """Since it was first seen, for longer than a dead one's heartbeat is there."""
        return other.at_secs - self._first_beats_secs[other.instance] > HEARTBEAT_TTL_SECS

    def _told(self, twin: Heartbeat) -> str:
        return (
            f"instance {twin.instance} has server.gateway_id={self._gateway_id} too, and takes "
            "answers that are for this one: give each gateway its own"
        )
