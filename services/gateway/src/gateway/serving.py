"""What the heartbeats of the other services say: who serves which key, and who is missing."""

from __future__ import annotations

from collections.abc import Sequence

from sgaps.checkpoints import DEFAULT_KEY, NOTHING
from sgaps.service import Heartbeat

NEEDED = ("reconstructor", "sampler", "recorder")


def serving_map(services: Sequence[Heartbeat]) -> dict[str, str]:
    """Checkpoint key → version, as the live reconstructors tell; `default` for all others."""
    merged: dict[str, str] = {}
    for service in services:
        serving = service.status.get("serving")
        if service.service == "reconstructor" and isinstance(serving, dict):
            merged.update({str(key): str(version) for key, version in serving.items()})
    return merged


def version_for(serving: dict[str, str], checkpoint_key: str) -> str:
    """The version that serves a key."""
    return serving.get(checkpoint_key, serving.get(DEFAULT_KEY, NOTHING))


def missing_services(services: Sequence[Heartbeat]) -> dict[str, str]:
    """Services without which no frame is answered and recorded, each with what is wrong."""
    wrong = {name: _what_is_wrong([s for s in services if s.service == name]) for name in NEEDED}
    return {name: why for name, why in wrong.items() if why}


def _what_is_wrong(replicas: Sequence[Heartbeat]) -> str:
    """Empty if one of them is ready."""
    if not replicas:
        return "no heartbeat"
    if any(replica.ready for replica in replicas):
        return ""
    return replicas[0].reason or "not ready"
