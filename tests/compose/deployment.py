"""A deployment as its operator has it: the compose command and the published port."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from paths import ROOT
from sgaps_command import SGAPS, run_process

COMPOSE = SGAPS.with_name("docker-compose")
COMMAND_TIMEOUT_SECS = 900
PROJECT = "sgaps-test"
FILES = (ROOT / "compose.yaml", ROOT / "tests" / "compose" / "compose.test.yaml")
# Where the published metrics would be asked by Prometheus.
METRICS = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
)


@dataclass(frozen=True, kw_only=True)
class Container:
    name: str
    service: str
    state: str
    health: str


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Compose commands end in bounded time and must succeed."""

    port: int
    token: str
    environment: Mapping[str, str]

    def compose(self, *arguments: str) -> str:
        files = [part for path in FILES for part in ("-f", str(path))]
        return command(
            str(COMPOSE), *files, "-p", PROJECT, *arguments, environment=self.environment
        )

    def containers(self, service: str) -> list[Container]:
        lines = self.compose("ps", "-a", "--format", "json", service).splitlines()
        return sorted(
            (
                Container(
                    name=told["Name"],
                    service=told["Service"],
                    state=told["State"],
                    health=told["Health"],
                )
                for told in map(json.loads, lines)
            ),
            key=lambda container: container.name,
        )

    def start_play(self, *arguments: str, game: str = "doom/my_way_home") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(str(SGAPS), "play", game, "--json"),
                *("--url", f"ws://127.0.0.1:{self.port}/ws/stream"),
                *arguments,
            ],
            env={**self.environment, "SGAPS_TOKEN": self.token},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def play(self, *arguments: str) -> dict[str, Any]:
        return summary_of(self.start_play(*arguments))

    def doctor(self, data_dir: Path) -> dict[str, dict[str, Any]]:
        """What `sgaps doctor` finds, by what it looked at. It is told no address."""
        ours = {"SGAPS_TOKEN": self.token, "COMPOSE_PROJECT_NAME": PROJECT}
        done = run_process(
            *("doctor", "--json", "--data-dir", data_dir),
            env={**self.environment, **ours},
            timeout_secs=COMMAND_TIMEOUT_SECS,
        )
        return {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}

    def get(self, path: str) -> Any:
        answer = httpx.get(
            f"http://127.0.0.1:{self.port}{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=10,
        )
        return answer.raise_for_status().json()

    def rebuilt_frames(self, container: str) -> int:
        """Frames that one reconstructor has rebuilt, by its own metrics."""
        told = command("docker", "exec", container, "python", "-c", METRICS)
        for line in told.splitlines():
            if line.startswith('sgaps_batch_size_sum{stage="reconstruct"}'):
                return int(float(line.split()[-1]))
        return 0


def summary_of(playing: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = playing.communicate(timeout=COMMAND_TIMEOUT_SECS)
    assert playing.returncode == 0, output
    summary: dict[str, Any] = json.loads(output)
    return summary


def command(*parts: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        parts,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_SECS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(parts)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
