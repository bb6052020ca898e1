"""One frame through the real services: its spans at a real collector, its ids in their logs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from integration import talk
from integration.processes import ServiceProcess, ending, heartbeats, start_service
from ports import free_port
from sgaps import tracing
from sgaps.settings import Settings, load_settings
from sgaps_cli.bench.collector import Seen, collecting
from waiting import wait_until

PIPELINE = ("gateway", "reconstructor", "sampler", "recorder")
TOKEN = "not-for-any-log-7f3a"  # noqa: S105
PARENTS = {
    "accept": None,
    "reconstruct": "accept",
    "sample": "reconstruct",
    "deliver": "sample",
    "record": "accept",
}


@contextmanager
def pipeline(
    url: str, folder: Path, settings: Settings, *overrides: str
) -> Iterator[tuple[str, Sequence[ServiceProcess]]]:
    """The four processes that a frame meets; the address of the socket."""
    port = free_port()
    common = [
        f"bus.url={url}",
        "bus.block_secs=0.2",
        f"server.port={port}",
        f"server.auth_token={TOKEN}",
        "log_level=DEBUG",
        *overrides,
    ]
    services = [start_service(name, common, folder) for name in PIPELINE]
    with ending(services):
        wait_until(
            lambda: {n for n, h in heartbeats(url, settings).items() if h.ready} >= {*PIPELINE},
            timeout_secs=240,
        )
        yield f"ws://127.0.0.1:{port}/ws/stream", services
        started_at_secs = time.monotonic()
        assert [service.end() for service in services] == [0] * len(PIPELINE)
        assert time.monotonic() - started_at_secs < 10 * len(PIPELINE)


def play(url: str, frames: int) -> str:
    """Send frames and have each answered; the session's id."""
    with connect(url) as socket:
        socket.send(json.dumps({**talk.START, "auth_token": TOKEN}))
        session_id = str(json.loads(socket.recv())["session_id"])
        socket.recv()
        for frame_id in range(frames):
            socket.send(json.dumps(talk.frame(frame_id)))
            answer = json.loads(socket.recv(timeout=60))
            assert (answer["type"], answer["frame_id"]) == ("uv_coordinates", frame_id)
    return session_id


def test_a_frame_is_traced_through_all_stages_and_its_ids_are_in_every_log(
    clean_broker: str, tmp_path: Path, settings: Settings
) -> None:
    with (
        collecting() as (endpoint, spans),
        pipeline(
            clean_broker,
            tmp_path,
            settings,
            f"tracing.endpoint={endpoint}",
            "tracing.sample_ratio=1",
            "logging.form=json",
        ) as (url, services),
    ):
        session_id = play(url, frames=3)
        wait_until(lambda: len(spans) >= 3 * len(PARENTS), timeout_secs=60)
    of_one = [span for span in spans if span.attributes["frame.id"] == 1]
    _check_trace({span.stage: span for span in of_one}, session_id)
    assert len({span.trace_id for span in spans}) == 3
    lines = {service.name: _json_lines(service) for service in services}
    for name, said in lines.items():
        told = {line["message"].split(":")[0]: line for line in said if line.get("frame_id") == 1}
        assert told.keys() == {
            s.stage for s in of_one if s.resource["service.name"] == f"sgaps-{name}"
        }
        for line in told.values():
            assert (line["trace_id"], line["session_id"]) == (of_one[0].trace_id, session_id)


def _check_trace(by_stage: dict[str, Seen], session_id: str) -> None:
    assert by_stage.keys() == PARENTS.keys()
    assert len({span.trace_id for span in by_stage.values()}) == 1
    for stage, parent in PARENTS.items():
        span = by_stage[stage]
        assert span.parent_id == (by_stage[parent].span_id if parent else "")
        assert span.attributes["session.id"] == session_id
        # The player waits for each answer, but not for the recorder, which may have all three.
        together = 3 if stage == "record" else 1
        assert 1 <= int(str(span.attributes["batch.size"])) <= together
        assert span.start_ns <= span.end_ns
        if parent:
            assert 0 <= float(str(span.attributes["queue.wait_secs"])) < 60
            assert by_stage[parent].start_ns <= span.start_ns
    assert by_stage["reconstruct"].attributes["model.version"] == "telea"
    assert by_stage["deliver"].attributes["outcome"] == "delivered"
    pids = {stage: span.resource["process.pid"] for stage, span in by_stage.items()}
    assert pids["accept"] == pids["deliver"]  # the gateway begins and ends it
    assert len(set(pids.values())) == len(PIPELINE)


def _json_lines(service: ServiceProcess) -> list[dict[str, Any]]:
    """Every line is one object, and none holds the token."""
    assert TOKEN not in service.said
    lines = [json.loads(line) for line in service.said.splitlines()]
    for line in lines:
        assert {"time", "level", "service", "instance", "logger", "message"} <= line.keys()
        assert (line["service"], line["instance"]) == (service.name, "test")
        assert line["time"].endswith("+00:00")
    return lines


def test_a_dead_collector_costs_one_line_and_no_frame(
    clean_broker: str, tmp_path: Path, settings: Settings
) -> None:
    tracing_dead = f"tracing.endpoint=http://127.0.0.1:{free_port()}/v1/traces"
    with pipeline(clean_broker, tmp_path, settings, tracing_dead, "tracing.sample_ratio=1") as (
        url,
        services,
    ):
        session_id = play(url, frames=30)
        for service in services:
            wait_until(lambda s=service: s.lines("no collector takes our spans"))  # type: ignore[misc]
        time.sleep(3)  # further attempts
    for service in services:
        assert len(service.lines("no collector takes our spans")) == 1
        assert "Traceback" not in service.said
        assert TOKEN not in service.said
    assert services[0].lines(f"[session_id={session_id} frame_id=7 trace_id=")  # text has them too


def test_without_an_endpoint_nothing_is_traced_or_even_imported() -> None:
    code = (
        "import sys; from sgaps import tracing; from sgaps.settings import load_settings;"
        "tracing.start(load_settings().tracing, service='sampler', instance='x')();"
        "print(repr(tracing.new_traceparent()), 'opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["''", "False"]


@pytest.mark.parametrize(
    "traceparent",
    ["", "00-1-2-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'A' * 32}-{'1' * 16}-01", "x" * 55],
)
def test_what_is_no_traceparent_is_carried_and_not_read(traceparent: str) -> None:
    ended = tracing.start(
        load_settings([f"tracing.endpoint=http://127.0.0.1:{free_port()}/v1/traces"]).tracing,
        service="sampler",
        instance="x",
    )
    try:
        message = talk.chosen("a", 1, traceparent=traceparent)
        assert tracing.passed("sample", message, started_at_secs=0.0, entry_id="1-0") == traceparent
    finally:
        ended()
        tracing._spans = None
