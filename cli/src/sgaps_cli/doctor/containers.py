"""The containers of compose.yaml, where Docker answers; where it does not, nothing is said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

from sgaps_cli.doctor.finding import TIMEOUT_SECS, Finding

LABEL = "com.docker.compose"


def look_at_containers() -> Iterator[Finding]:
    """Those of the project that should run and do not, or are not healthy."""
    project = os.environ.get("COMPOSE_PROJECT_NAME", "sgaps")
    command = ["docker", "ps", "--all", "--filter", f"label={LABEL}.project={project}"]
    try:
        done = subprocess.run(
            [*command, "--format", "{{json .}}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECS,
        )
        containers = [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return
    bad = [c for c in containers if _is_bad(c["State"], c["Status"])]
    if containers:
        yield Finding(
            what="containers",
            well=not bad,
            detail="; ".join(f"{c['Names']}: {c['Status']}" for c in bad)
            or f"{len(containers)}, none of them unwell",
            cure="; ".join(f"docker logs --tail 20 {c['Names']}" for c in bad)
            + "; docker inspect --format '{{json .State.Health}}' shows the last checks",
        )


def _is_bad(state: str, status: str) -> bool:
    """One that ended well was meant to: a container that writes secrets, say."""
    return "(unhealthy)" in status or state in {"restarting", "dead"} or _failed(state, status)


def _failed(state: str, status: str) -> bool:
    return state == "exited" and not status.startswith(("Exited (0)", "Exited (143)"))
