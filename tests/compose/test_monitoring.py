"""Prometheus watches the deployment: it finds the replicas, and every expression has data."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from compose.deployment import Deployment
from monitoring.expressions import ALWAYS_FIRES, Expression, of_panels, of_rules
from waiting import wait_until

GAME = "atari/pong"
"""Of which there is no checkpoint yet, so that the first training run publishes one."""
SESSION_FRAMES = 60
DATA_TIMEOUT_SECS = 120
OF_A_BUSY_MACHINE = {"SlowAnswers", "DropsTooHigh", "FramesWaitTooLong", "PredictedQualityLow"}
"""What may be true for a while on two cores that also train, and of a model of ten seconds."""


class Prometheus:
    """Its HTTP API, as Grafana asks it."""

    def __init__(self, port: str) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, query: str) -> list[float]:
        """The newest value of each series."""
        answer = httpx.get(f"{self._api}/query", params={"query": query}, timeout=10)
        assert answer.is_success, f"{query}\n{answer.text}"
        return [float(series["value"][1]) for series in answer.json()["data"]["result"]]

    def alerts(self) -> dict[str, str]:
        """Name → state of those that are pending or firing."""
        told: list[dict[str, Any]] = httpx.get(f"{self._api}/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in told}


@pytest.fixture(scope="module")
def prometheus(deployment: Deployment) -> Iterator[Prometheus]:
    """With players that play on, and a checkpoint trained before its eyes."""
    deployment.compose("up", "--detach", "--wait", "prometheus", "redis-exporter", "trainer")
    player = deployment.start_play("--session-frames", str(SESSION_FRAMES), game=GAME)
    found = Prometheus(deployment.environment["PROMETHEUS_PORT"])
    wait_until(lambda: _answers(found), "Prometheus answers")
    wait_until(
        lambda: found.ask('sgaps_training_runs_total{outcome="published"} > 0'),
        "a checkpoint is published",
        timeout_secs=300,
    )
    yield found
    player.send_signal(signal.SIGINT)
    player.communicate(timeout=60)


def _answers(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.ask("up"))
    except httpx.TransportError:
        return False


def silent(prometheus: Prometheus, expressions: Sequence[Expression]) -> list[Expression]:
    """Those that have no number to show."""
    return [e for e in expressions if all(map(math.isnan, prometheus.ask(e.text)))]


def test_every_expression_has_data(prometheus: Prometheus) -> None:
    deadline_secs = time.monotonic() + DATA_TIMEOUT_SECS
    remaining = [*of_panels(), *of_rules()]
    while (remaining := silent(prometheus, remaining)) and time.monotonic() < deadline_secs:
        time.sleep(1)
    assert remaining == []


def test_nothing_is_wrong_with_what_is_well(prometheus: Prometheus) -> None:
    wait_until(
        lambda: prometheus.alerts().keys() - OF_A_BUSY_MACHINE == {ALWAYS_FIRES},
        "no other alert than the Watchdog",
    )
    firing = {name for name, state in prometheus.alerts().items() if state == "firing"}
    assert firing - OF_A_BUSY_MACHINE == {ALWAYS_FIRES}


def test_each_process_is_asked_once(prometheus: Prometheus) -> None:
    """Also the gateway, which Prometheus meets in two networks."""
    for service in ("gateway", "reconstructor", "sampler", "recorder", "trainer", "redis"):
        assert prometheus.ask(f'up{{job="{service}"}}') == [1], service


def test_replicas_are_found_as_they_come_and_go(
    deployment: Deployment, prometheus: Prometheus
) -> None:
    _scale(deployment, 2)
    wait_until(lambda: _asked(prometheus) == [1, 1], "both are asked")
    _scale(deployment, 1)
    wait_until(lambda: _asked(prometheus) == [1], "the one that is left")


def _scale(deployment: Deployment, replicas: int) -> None:
    scaled = ("--no-recreate", "--scale", f"reconstructor={replicas}", "reconstructor")
    deployment.compose("up", "--detach", "--wait", *scaled)


def _asked(prometheus: Prometheus) -> list[float]:
    return prometheus.ask('up{job="reconstructor"}')


def test_nobody_reconstructs(deployment: Deployment, prometheus: Prometheus) -> None:
    deployment.compose("kill", "reconstructor")
    wait_until(lambda: "NobodyReconstructs" in prometheus.alerts(), "pending")
    wait_until(lambda: prometheus.alerts()["NobodyReconstructs"] == "firing", "firing")
    wait_until(lambda: "PipelineDead" in prometheus.alerts(), "no probe comes through")
    deployment.compose("up", "--detach", "--wait", "reconstructor")
    wait_until(
        lambda: not prometheus.alerts().keys() & {"NobodyReconstructs", "PipelineDead"},
        "it is well again",
    )
