"""Two gateways with one id: told where both live, and not where one has only just died."""

from __future__ import annotations

import logging

import pytest

from gateway.twins import Twins
from sgaps.service import HEARTBEAT_TTL_SECS, Heartbeat

LONG_SECS = int(HEARTBEAT_TTL_SECS) + 1
"""A dead one's heartbeat is gone by then."""


def beat(
    at_secs: float,
    instance: str = "there",
    *,
    service: str = "gateway",
    gateway_id: str | None = "main",
) -> Heartbeat:
    return Heartbeat(
        service=service,
        instance=instance,
        at_secs=at_secs,
        started_at_secs=1,
        status={"gateway_id": gateway_id} if gateway_id else {},
        ready=True,
        reason="",
    )


@pytest.fixture
def twins() -> Twins:
    return Twins("main", instance="here")


def test_who_goes_on_beating_with_our_id_is_told_once(
    twins: Twins, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(LONG_SECS):
        twins.look([beat(second, "here"), beat(second)])
        assert twins.why == ""
    for second in range(LONG_SECS, LONG_SECS + 5):
        twins.look([beat(second, "here"), beat(second)])
        assert "instance there has server.gateway_id=main too" in twins.why
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.getMessage() == twins.why


@pytest.mark.parametrize(
    "others",
    [
        [beat(100)] * LONG_SECS,
        [beat(second, f"life {second}") for second in range(LONG_SECS + 1)],
        [beat(second, "here") for second in range(LONG_SECS + 1)],
        [beat(second, gateway_id="other") for second in range(LONG_SECS + 1)],
        [beat(second, gateway_id=None) for second in range(LONG_SECS + 1)],
        [beat(second, service="sampler") for second in range(LONG_SECS + 1)],
    ],
    ids=["a dead one", "short lives", "itself", "another id", "no id", "another service"],
)
def test_what_is_no_twin(twins: Twins, others: list[Heartbeat]) -> None:
    for other in others:
        twins.look([other])
    assert twins.why == ""


def test_a_twin_that_went_is_forgotten(twins: Twins) -> None:
    for second in (0, LONG_SECS):
        twins.look([beat(second)])
    assert twins.why
    twins.look([])
    assert twins.why == ""
    twins.look([beat(LONG_SECS + 1)])  # it begins anew
    assert twins.why == ""


def test_a_clock_that_is_set_back_hides_no_twin(twins: Twins) -> None:
    for second in (10_000, 0, LONG_SECS):
        twins.look([beat(second)])
    assert twins.why
