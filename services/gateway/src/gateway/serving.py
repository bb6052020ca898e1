"""What really serves: read from the heartbeats of the reconstructors, never guessed."""

from __future__ import annotations

from sgaps.bus import Bus
from sgaps.service import Heartbeat, live_services

NOTHING = "none"
"""Model version while no reconstructor lives."""
CHECKPOINTLESS = frozenset({NOTHING, "untrained", "telea", "navier_stokes"})
"""Versions that stand for no checkpoint."""
NEEDED = ("reconstructor", "sampler", "recorder")


async def serving_version(bus: Bus, checkpoint_key: str) -> tuple[bool, str]:
    """Whether a checkpoint serves this key, and the version that does. Raises BusError."""
    version = version_for(serving_map(await live_services(bus)), checkpoint_key)
    return version not in CHECKPOINTLESS, version


def serving_map(services: list[Heartbeat]) -> dict[str, str]:
    """Checkpoint key → version, as the live reconstructors tell; `default` for all others."""
    merged: dict[str, str] = {}
    for service in services:
        serving = service.status.get("serving")
        if service.service == "reconstructor" and isinstance(serving, dict):
            merged.update({str(key): str(version) for key, version in serving.items()})
    return merged


def version_for(serving: dict[str, str], checkpoint_key: str) -> str:
    """The version that serves a key."""
    return serving.get(checkpoint_key, serving.get("default", NOTHING))


def missing_services(services: list[Heartbeat]) -> list[str]:
    """Services without which no frame is answered and recorded."""
    alive = {service.service for service in services}
    return [name for name in NEEDED if name not in alive]
