"""The whole system as a user starts it: `sgaps up`, with a port and a data folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from ports import free_port
from sgaps_command import SGAPS
from waiting import answers, wait_until


@dataclass(frozen=True, kw_only=True)
class System:
    port: int
    data_dir: Path
    players: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/stream"

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.http_url}{path}", timeout=10).json()

    def start_play(self, source: str, *arguments: str) -> subprocess.Popen[str]:
        command = [str(SGAPS), "play", source, "--url", self.ws_url, "--json", *arguments]
        player = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.players.append(player)
        return player

    def play(self, source: str, *arguments: str) -> dict[str, Any]:
        playing = self.start_play(source, *arguments)
        output, _ = playing.communicate(timeout=120)
        assert playing.returncode == 0, output
        summary: dict[str, Any] = json.loads(output)
        return summary

    def kill(self, service: str) -> None:
        """SIGKILL the process of a service; the supervisor starts it again."""
        os.kill(self.process_of(service), signal.SIGKILL)

    def process_of(self, service: str) -> int:
        """Found as a person would: by its command line."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            is_module = command[1:3] == [b"-m", service.encode()]
            if is_module and f"server.port={self.port}".encode() in command:
                return int(folder.name)
        raise AssertionError(f"{service} does not run")


def processes_of(data_dir: Path) -> list[str]:
    """What belongs to a system: its services name its folder, its broker works in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            works_in = (folder / "cwd").readlink()
        except OSError:
            continue
        is_service = str(data_dir) in command and " -m " in command
        if is_service or works_in == data_dir / "broker":
            found.append(command)
    return found


def start_system(data_dir: Path, *arguments: str) -> tuple[System, subprocess.Popen[bytes]]:
    system = System(port=free_port(), data_dir=data_dir)
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    process = subprocess.Popen(
        [
            *(str(SGAPS), "up", "--no-browser", "--port", str(system.port)),
            *("--data-dir", str(data_dir)),
            *arguments,
        ],
        env=environment,
    )
    url = f"{system.http_url}/api/ready"
    try:
        wait_until(lambda: process.poll() is not None or answers(url), "the system is ready")
        assert process.poll() is None, "it ended"
    except AssertionError as error:
        process.kill()
        logs = "\n".join(log.read_text()[-2000:] for log in (data_dir / "logs").glob("*.log"))
        raise AssertionError(f"{error}\n{logs}") from error
    return system, process


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    data_dir = tmp_path_factory.mktemp("data")
    # Training has its own tests; here it would only take the two cores from the rest.
    running, process = start_system(data_dir, "--set", "training.min_new_frames=100000")
    yield running
    for player in running.players:
        player.kill()  # one that a failed test left behind would try to connect for ever
    process.terminate()
    assert process.wait(60) == 0
    wait_until(lambda: not processes_of(data_dir), timeout_secs=15)
