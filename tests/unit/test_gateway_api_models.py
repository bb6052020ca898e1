"""What a gateway tells of its sessions, and how often it works that out."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from gateway.api_models import LIST_SECS, SessionList, percentile, session_status
from gateway.session import SessionManager
from gateway_sessions import a_session
from sgaps.settings import Settings


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 200])
@pytest.mark.parametrize("percent", [0, 50, 99, 100])
def test_percentiles_are_those_of_numpy(count: int, percent: float) -> None:
    values = np.random.default_rng(count).random(count)
    assert percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent))


def test_latencies_are_told_in_milliseconds_whatever_their_order() -> None:
    session = a_session()
    assert session_status(session).latency_p50_ms is None
    session.latencies_secs.extend([0.3, 0.1, 0.2])
    status = session_status(session)
    assert status.latency_p50_ms == pytest.approx(200)
    assert status.latency_p99_ms == pytest.approx(298)


def test_the_list_of_all_sessions_is_made_again_when_it_is_old(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = SessionManager(settings.server)
    listed, session = SessionList(sessions), a_session()

    def told() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(listed.json())
        return found

    assert told() == []
    sessions.add(session)
    assert told() == []
    now_secs = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_secs + LIST_SECS)
    (only,) = told()
    assert (only["session_id"], only["latency_p50_ms"]) == ("a", None)
    assert only.keys() == session_status(session).model_dump().keys()
