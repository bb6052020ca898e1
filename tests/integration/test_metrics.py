"""All five real services, scraped after frames went through them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from redis import Redis
from websockets.asyncio.client import connect

from integration.noise import Noise
from integration.processes import SERVICES, ServiceProcess, ending, start_service
from integration.scrape import Scrape, scrape
from integration.talk import start
from metric_catalogue import CATALOGUE, COMMON, OWN
from paths import ROOT
from ports import free_port
from sgaps.bus.ledger import COLUMNS
from sgaps.errors import ErrorCode
from sgaps_cli import broker
from sgaps_client.player import PlayOptions, PlaySummary, play
from training import toy_recordings
from waiting import wait_until

SHIPPED = ROOT / "checkpoints"
FRAMES = 30
SLOW_SECS = 240
"""Five processes, two models and a training run, on a machine that has other work too."""
GATEWAY_ID = "main"
COORDINATES = f"sgaps:coordinates:{GATEWAY_ID}"
STAGES = {
    "gateway": ("accept", "deliver"),
    "reconstructor": ("reconstruct",),
    "sampler": ("sample",),
    "recorder": ("record",),
    "trainer": (),
}


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """The services at one moment, and what a client knows of it."""

    of: Mapping[str, Scrape]
    summary: PlaySummary
    at_secs: float


@contextmanager
def running(url: str, folder: Path, *overrides: str) -> Iterator[tuple[int, dict[str, int]]]:
    """The services; the gateway's port, and where each is scraped."""
    port = free_port()
    ports = {name: free_port() for name in SERVICES}
    services: list[ServiceProcess] = []
    with ending(services):
        for name in SERVICES:
            own = [f"bus.url={url}", f"server.port={port}", f"metrics_port={ports[name]}"]
            services.append(start_service(name, [*own, *overrides], folder))
        wait_until(lambda: broker.is_listening(port), timeout_secs=SLOW_SECS)
        wait_until(lambda: all(_is_ready(port) for port in ports.values()), timeout_secs=SLOW_SECS)
        yield port, ports
        for service in services:
            assert "Traceback" not in service.said


def _is_ready(port: int) -> bool:
    return broker.is_listening(port) and scrape(port).get("sgaps_ready") == 1


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory, broker_url: str) -> Scraped:
    folder = tmp_path_factory.mktemp("metrics")
    for session in ("a", "bb", "ccc", "dddd"):
        toy_recordings.record(folder / "recordings", session, frames=100)
    with Redis.from_url(broker_url) as redis:
        redis.flushall()
    overrides = [
        *("reconstructor.method=spt", "recorder.segment_idle_secs=1"),
        *("server.probe_interval_secs=1", f"server.gateway_id={GATEWAY_ID}"),
        *("training=live", "training.min_new_frames=400", "training.max_secs=3"),
        "reconstructor.cpu_threads=1",
    ]
    with running(broker_url, folder, *overrides) as (port, ports):
        return asyncio.run(played_and_scraped(port, ports))


async def played_and_scraped(port: int, ports: Mapping[str, int]) -> Scraped:
    url = f"ws://127.0.0.1:{port}/ws/stream"
    options = PlayOptions(
        url=url, checkpoint_key="noise", frames=FRAMES, session_frames=None, auth_token=None
    )
    summary = await play(Noise(), options, stop=asyncio.Event())
    await asyncio.to_thread(wait_until, lambda: has_settled(ports), timeout_secs=SLOW_SECS)
    async with connect(url) as socket, connect(url):
        await start(socket)
        of = {name: await asyncio.to_thread(scrape, port) for name, port in ports.items()}
    return Scraped(of=of, summary=summary, at_secs=time.time())


def has_settled(ports: Mapping[str, int]) -> bool:
    """Everything that takes its time has happened once."""
    gateway, reconstructor, recorder, trainer = (
        scrape(ports[name]) for name in ("gateway", "reconstructor", "recorder", "trainer")
    )
    published, *others = (
        trainer.of("sgaps_training_runs_total", outcome=outcome)
        for outcome in ("published", "kept_champion", "failed")
    )
    return (
        published + sum(others) > 0
        and reconstructor.of("sgaps_model_reloads_total", outcome="swapped") == published
        and all(scrape(port).of("sgaps_ready") == 1 for port in ports.values())
        and gateway.of("sgaps_probes_total", outcome="answered") > 0
        and recorder.of("sgaps_segments_sealed_total") > 0
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_exposes_what_it_declares_and_nothing_else(
    service: str, scraped: Scraped
) -> None:
    declared = {one.name for one in (*COMMON, *OWN[service])}
    assert scraped.of[service].families == declared


@pytest.mark.parametrize("service", SERVICES)
def test_every_metric_has_the_labels_it_declares(service: str, scraped: Scraped) -> None:
    """And a series, unless that would tell something that has not happened."""
    for one in (*COMMON, *OWN[service]):
        found = scraped.of[service].labels_of(one.series)
        assert all(set(labels) == set(one.labels) for labels in found)
        if "stage" not in one.labels or STAGES[service]:
            assert found, f"{service}: {one.name} has no series"


@pytest.mark.parametrize("service", SERVICES)
def test_what_every_service_tells(service: str, scraped: Scraped) -> None:
    found = scraped.of[service]
    assert found.of("sgaps_ready") == 1
    assert found.of("sgaps_build_info", version=version("sgaps")) == 1
    for name in ("claims", "failures", "buried", "broker_waits"):
        value = found.of(f"sgaps_{name}_total", group=service)
        # A trainer that gets no processor meanwhile hears the broker's answer too late.
        assert value == 0 or (service, name) == ("trainer", "broker_waits")
    for stage in STAGES[service]:
        batches = found.of("sgaps_stage_seconds_count", stage=stage)
        assert batches > 0
        # One may be in hand, or come while the metrics are read: the probes never cease.
        assert found.of("sgaps_batch_size_count", stage=stage) - batches in {0, 1}
        assert 0 < found.of("sgaps_stage_seconds_sum", stage=stage) < 60
        if stage == "accept":
            assert batches == FRAMES
            continue
        entries = found.of("sgaps_batch_size_sum", stage=stage)
        assert found.of("sgaps_queue_wait_seconds_count", stage=stage) - entries in {-1, 0, 1}
        assert 0 <= found.of("sgaps_queue_wait_seconds_sum", stage=stage) < 10 * entries
    assert len(found.labels_of("sgaps_stage_seconds_count")) == len(STAGES[service])


def test_what_the_gateway_tells(scraped: Scraped) -> None:
    found, summary = scraped.of["gateway"], scraped.summary
    assert found.of("sgaps_frames_received_total") == summary.accepted == FRAMES
    delivered = found.of("sgaps_frames_delivered_total")
    assert 0 < summary.answered <= delivered <= FRAMES
    assert delivered == found.of("sgaps_end_to_end_seconds_count")
    assert 0 < found.of("sgaps_end_to_end_seconds_sum") < 10 * delivered
    assert delivered == found.of("sgaps_predicted_psnr_db_count")
    assert 5 < found.of("sgaps_predicted_psnr_db_sum") / delivered < 50
    refused = {x["code"] for x in found.labels_of("sgaps_messages_refused_total")}
    assert refused == {code.value for code in ErrorCode}
    assert found.of("sgaps_sockets", state="playing") == 1
    assert found.of("sgaps_sockets", state="waiting") == 1
    assert found.of("sgaps_client_bytes_total", direction="up") > 600 * FRAMES
    assert found.of("sgaps_client_bytes_total", direction="down") > 600 * delivered
    answered = found.of("sgaps_probes_total", outcome="answered")
    assert answered > 0
    assert answered - found.of("sgaps_probe_seconds_count") in {0, 1}
    assert 0 < found.of("sgaps_probe_seconds_sum") < 2 * answered
    assert found.of("sgaps_probes_total", outcome="lost") >= 0
    for what in ("answered", "recorded"):
        since_secs = scraped.at_secs - found.of(f"sgaps_probe_{what}_timestamp_seconds")
        assert -1 < since_secs < 60


def test_what_the_reconstructor_tells(scraped: Scraped) -> None:
    found = scraped.of["reconstructor"]
    models = {x["checkpoint_key"]: x["model_version"] for x in found.labels_of("sgaps_model_info")}
    assert models["default"].startswith("v")
    refused = found.labels_of("sgaps_checkpoint_refused")
    assert {x["checkpoint_key"] for x in refused} >= models.keys()
    assert all(found.of("sgaps_checkpoint_refused", **x) == 0 for x in refused)
    assert found.of("sgaps_model_reloads_total", outcome="failed") == 0
    come_since = models.keys() - {path.name for path in SHIPPED.iterdir()}
    published = scraped.of["trainer"].of("sgaps_training_runs_total", outcome="published")
    assert found.of("sgaps_model_reloads_total", outcome="swapped") == len(come_since) == published
    assert 0 < found.of("sgaps_views_encoded_total") <= FRAMES


def test_what_the_recorder_tells(scraped: Scraped) -> None:
    found = scraped.of["recorder"]
    assert found.of("sgaps_frames_recorded_total") == scraped.summary.recorded == FRAMES
    assert FRAMES * 600 < found.of("sgaps_recorded_bytes_total") < FRAMES * 100_000
    assert 0 <= scraped.at_secs - found.of("sgaps_recorder_fsync_timestamp_seconds") < 300
    assert found.of("sgaps_recorder_waiting") == 0
    assert found.of("sgaps_recordings_free_bytes") > 2**20
    assert found.of("sgaps_segments_open") == 0
    assert found.of("sgaps_segments_sealed_total") == 1
    assert found.of("sgaps_segments_deleted_total") == 0
    assert found.of("sgaps_deleted_bytes_total") == 0


def test_what_it_tells_of_the_broker(scraped: Scraped) -> None:
    found = scraped.of["recorder"]
    columns = {column: found.of("sgaps_ledger_frames_total", column=column) for column in COLUMNS}
    assert columns["received"] == FRAMES
    assert columns["delivered"] == scraped.of["gateway"].of("sgaps_frames_delivered_total")
    assert columns["delivered"] + columns["superseded"] == FRAMES
    assert sum(columns.values()) == 2 * FRAMES
    assert found.of("sgaps_frames_in_flight") == 0
    groups = [
        ("sgaps:frames", "reconstructor"),
        ("sgaps:frames", "recorder"),
        ("sgaps:reconstructions", "sampler"),
        ("sgaps:recordings", "trainer"),
        (COORDINATES, "gateway"),
    ]
    for stream, group in groups:
        labels = {"stream": stream, "group": group}
        assert 0 <= found.of("sgaps_stream_oldest_undelivered_seconds", **labels) < 5
        assert 0 <= found.of("sgaps_stream_pending", **labels) <= 1  # a probe, or a segment
        assert found.of("sgaps_stream_length", stream=stream) >= 0
    assert len(found.labels_of("sgaps_stream_pending")) == len(groups)
    assert found.of("sgaps_dead_letters") == 0
    for service in SERVICES:
        assert found.of("sgaps_services", service=service, state="ready") == 1
        assert found.of("sgaps_services", service=service, state="not_ready") == 0


def test_what_the_trainer_tells(scraped: Scraped) -> None:
    found = scraped.of["trainer"]
    published = found.of("sgaps_training_runs_total", outcome="published")
    kept = found.of("sgaps_training_runs_total", outcome="kept_champion")
    assert (published + kept, found.of("sgaps_training_runs_total", outcome="failed")) == (1, 0)
    assert found.of("sgaps_training_running") == 0
    assert found.of("sgaps_training_steps_total") > 0
    assert math.isfinite(found.of("sgaps_training_loss"))
    for model in ("champion", "challenger"):
        assert 5 < found.of("sgaps_training_val_psnr_db", model=model) < 50
    since_secs = scraped.at_secs - found.of("sgaps_checkpoint_published_timestamp_seconds")
    assert (0 <= since_secs < 300) is (published == 1)


def test_nothing_is_told_of_a_broker_that_is_away(tmp_path: Path) -> None:
    server = broker.start(broker.find_program(), tmp_path / "broker", log_file=tmp_path / "log")
    port = free_port()
    recorder = start_service(
        "recorder", [f"bus.url={server.url}", f"metrics_port={port}"], tmp_path
    )
    with ending([recorder]):
        wait_until(lambda: _is_ready(port))
        wait_until(lambda: scrape(port).get("sgaps_frames_in_flight") == 0)
        server.stop()
        wait_until(lambda: scrape(port).get("sgaps_frames_in_flight") is None)
        away = scrape(port)
        again = broker.start(
            broker.find_program(),
            tmp_path / "broker",
            log_file=tmp_path / "log",
            port=int(server.url.rpartition(":")[2].partition("/")[0]),
        )
        try:
            wait_until(lambda: scrape(port).get("sgaps_frames_in_flight") == 0)
            wait_until(lambda: _is_ready(port))
            assert scrape(port).of("sgaps_broker_waits_total", group="recorder") == 1
            assert recorder.end() == 0
        finally:
            again.stop()
    gone = {one.name for one in (*COMMON, *OWN["recorder"])} - away.families
    assert gone == {one.name for one in CATALOGUE["What belongs to the broker"]}
    assert away.of("sgaps_ready") == 0
    assert away.of("sgaps_recorder_waiting") == 1
    assert away.of("sgaps_broker_waits_total", group="recorder") == 1
