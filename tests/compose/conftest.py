"""The deployment on a real engine: built, started, and taken down with everything it made.

What a run logged lies in data/compose-tests/.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.deployment import COMPOSE, FILES, PROJECT, Deployment
from compose.engine import running_engine
from compose.images import LEGACY_BUILDER, base_images
from paths import ROOT
from ports import free_port

LOGS = ROOT / "data" / "compose-tests"
PROFILES = tuple(
    part for name in ("train", "demo", "setup", "monitoring") for part in ("--profile", name)
)


@pytest.fixture(scope="package")
def logs() -> Path:
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    return LOGS


@pytest.fixture(scope="package")
def engine(logs: Path) -> Iterator[None]:
    with running_engine(logs):
        yield


@pytest.fixture(scope="package")
def deployment_environment(
    engine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """What a `.env` beside compose.yaml would say."""
    scratch = tmp_path_factory.mktemp("compose")
    (scratch / "secrets").mkdir()
    ours = {
        **base_images(scratch),
        **LEGACY_BUILDER,
        "SGAPS_IMAGES": PROJECT,
        "SGAPS_PORT": str(free_port()),
        "PROMETHEUS_PORT": str(free_port()),
        "SGAPS_SECRETS_DIR": str(scratch / "secrets"),
    }
    # pytest-docker's commands take theirs from this process.
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ours.items():
            patch.setenv(name, value)
        yield {**os.environ}


@pytest.fixture(scope="package")
def docker_compose_command() -> str:
    return str(COMPOSE)


@pytest.fixture(scope="package")
def docker_compose_file() -> list[str]:
    return [str(path) for path in FILES]


@pytest.fixture(scope="package")
def docker_compose_project_name(deployment_environment: dict[str, str]) -> str:
    """Also brings the environment, before the first command."""
    return PROJECT


@pytest.fixture(scope="package")
def docker_setup() -> list[str]:
    """What is left of a run that was killed; the deployment then starts as a person starts it."""
    return [" ".join([*PROFILES, "down --volumes --timeout 5"])]


@pytest.fixture(scope="package")
def docker_cleanup(logs: Path) -> list[str]:
    return [
        " ".join([*PROFILES, f"logs --no-color --timestamps > '{logs / 'services.log'}' 2>&1"]),
        " ".join([*PROFILES, "down --volumes --timeout 20"]),
    ]


@pytest.fixture(scope="package")
def deployment(deployment_environment: dict[str, str], docker_services: object) -> Deployment:
    """Started as docs/deployment.md says: build, secrets, up."""
    fresh = Deployment(
        port=int(deployment_environment["SGAPS_PORT"]), token="", environment=deployment_environment
    )
    fresh.compose(*PROFILES, "build")
    user = f"{os.getuid()}:{os.getgid()}"
    fresh.compose("run", "--rm", "--user", user, "secrets")
    fresh.compose("up", "--detach", "--wait", "--wait-timeout", "120")
    token = (Path(deployment_environment["SGAPS_SECRETS_DIR"]) / "auth_token").read_text().strip()
    return Deployment(port=fresh.port, token=token, environment=deployment_environment)
