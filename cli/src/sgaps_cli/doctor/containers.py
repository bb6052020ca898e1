"""The containers of compose.yaml, where Docker answers; where it does not, nothing is said."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from sgaps_cli.doctor.finding import TIMEOUT_SECS, Finding
from sgaps_cli.doctor.variables import variable

LABEL = "com.docker.compose"
NEEDED = ("redis", "gateway", "reconstructor", "sampler", "recorder")
"""Services without which no frame is answered or kept, as compose.yaml calls them."""
MEANT_TO_END = ("secrets",)
_PUBLISHED = re.compile(r"(?P<host>[^\s,]+):(?P<port>\d+)->8000/tcp")
"""In `docker ps`, as "127.0.0.1:8000->8000/tcp"."""
_EVERY_ADDRESS = ("0.0.0.0", "[::]", "::")  # noqa: S104 - nothing is bound

Container: TypeAlias = Mapping[str, str]
"""A line of `docker ps --format json`."""


def deployed() -> list[Container]:
    """Those of the project. A deployment that is down as a whole is none."""
    project = variable("COMPOSE_PROJECT_NAME", "sgaps")
    command = ["docker", "ps", "--all", "--filter", f"label={LABEL}.project={project}"]
    try:
        done = subprocess.run(
            [*command, "--format", "{{json .}}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECS,
        )
        containers: list[Container] = [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return containers if any(c["State"] == "running" for c in containers) else []


def published_url(containers: Sequence[Container], scheme: str) -> str | None:
    """Where the gateway is found from this machine; None where it is not published."""
    for container in containers:
        if _service(container) == "gateway" and (port := _PUBLISHED.search(container["Ports"])):
            host = "127.0.0.1" if port["host"] in _EVERY_ADDRESS else port["host"]
            return f"{scheme}://{host}:{port['port']}"
    return None


def containers_found(containers: Sequence[Container]) -> Iterator[Finding]:
    """What should run and does not, or is not healthy."""
    if not containers:
        return
    bad = [container for container in containers if _is_bad(container)]
    missing = [name for name in NEEDED if name not in map(_service, containers)]
    details = [f"{c['Names']}: {c['Status']}" for c in bad]
    details += [f"{name}: no container" for name in missing]
    cures = [f"docker logs --tail 20 {c['Names']}" for c in bad]
    cures += ["docker inspect --format '{{json .State.Health}}' shows the last checks"]
    cures += ["docker compose up --detach --wait starts what has ended"]
    yield Finding(
        what="containers",
        well=not details,
        detail="; ".join(details) or f"{len(containers)}, none of them unwell",
        cure="; ".join(cures),
    )


def _is_bad(container: Container) -> bool:
    if _service(container) in MEANT_TO_END or _labels(container).get("oneoff") == "True":
        return False
    return container["State"] != "running" or "(unhealthy)" in container["Status"]


def _service(container: Container) -> str:
    return _labels(container).get("service", "")


def _labels(container: Container) -> dict[str, str]:
    """Those of Compose."""
    named = (label.partition("=") for label in container["Labels"].split(","))
    return {name.removeprefix(f"{LABEL}."): value for name, _, value in named}
