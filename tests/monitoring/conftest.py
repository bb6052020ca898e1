"""A real Prometheus with the configuration of monitoring/, and a real exporter before a broker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitoring.expressions import PROMETHEUS
from ports import free_port
from tools import require_tool
from waiting import answers, wait_until

STOP_TIMEOUT_SECS = 30


@pytest.fixture(scope="session")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its targets are names that only the deployment knows: it has itself alone to look at."""
    folder = tmp_path_factory.mktemp("prometheus")
    address = f"127.0.0.1:{free_port()}"
    command = [
        require_tool("prometheus", "prometheus"),
        f"--config.file={PROMETHEUS / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with _served(command, f"http://{address}/-/ready", folder / "log"):
        yield f"http://{address}"


@pytest.fixture(scope="session")
def exporter_url(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    command = [
        require_tool("prometheus-redis-exporter", "prometheus-redis-exporter"),
        f"-redis.addr={broker_url}",
        "-config-command=-",
        f"-web.listen-address={address}",
    ]
    log = tmp_path_factory.mktemp("exporter") / "log"
    with _served(command, f"http://{address}/health", log):
        yield f"http://{address}"


@contextmanager
def _served(command: list[str], url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_until(lambda: process.poll() is not None or answers(url), f"it answers, see {log}")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_SECS)
