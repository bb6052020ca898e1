"""The metrics as declared, and what is told of them."""

from __future__ import annotations

import socket
import time

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from metric_catalogue import CATALOGUE, Declared
from paths import ROOT
from sgaps.bus.ledger import COLUMNS
from sgaps.errors import ErrorCode, SettingsError
from sgaps.metrics import ConsumerMeter, serve_metrics
from sgaps.metrics.broker import STALE_SECS, BrokerCollector, BrokerState, GroupState
from sgaps.metrics.reconstructor import serve_models

DOCUMENT = ROOT / "docs" / "monitoring.md"


def documented() -> dict[str, list[Declared]]:
    """The tables of the section Metrics, by heading."""
    _, _, rest = DOCUMENT.read_text().partition("## Metrics\n")
    section = rest.partition("\n## ")[0]
    found: dict[str, list[Declared]] = {}
    for part in section.split("\n### ")[1:]:
        heading, *lines = part.splitlines()
        table = [line for line in lines if line.startswith("| `sgaps_")]
        if table:
            found[heading] = list(map(_row, table))
    return found


def _row(line: str) -> Declared:
    name, kind, labels, meaning = (cell.strip() for cell in line.strip("|").split(" | "))
    return Declared(
        name=name.strip("`"),
        type=kind,
        labels=tuple(label.strip("` ") for label in labels.split(",") if label),
        meaning=meaning,
    )


def test_the_document_lists_what_the_code_declares_and_nothing_else() -> None:
    assert documented() == {heading: list(found) for heading, found in CATALOGUE.items()}


def test_names_follow_the_conventions() -> None:
    everything = [one for found in CATALOGUE.values() for one in found]
    names = [one.name for one in everything]
    assert len(set(names)) == len(names) > 40
    for one in everything:
        assert one.name.startswith("sgaps_")
        assert one.name.endswith("_total") is (one.type == "counter")
        assert not {"session", "session_id", "frame_id"} & set(one.labels)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *(("sgaps_messages_refused_total", {"code": code.value}) for code in ErrorCode),
        *(("sgaps_sockets", {"state": state}) for state in ("waiting", "playing")),
        *(("sgaps_client_bytes_total", {"direction": way}) for way in ("up", "down")),
        *(("sgaps_probes_total", {"outcome": outcome}) for outcome in ("answered", "lost")),
        *(("sgaps_model_reloads_total", {"outcome": o}) for o in ("swapped", "failed")),
        *(
            ("sgaps_training_runs_total", {"outcome": outcome})
            for outcome in ("published", "kept_champion", "failed")
        ),
    ],
)
def test_series_of_known_labels_are_there_from_the_start(name: str, labels: dict[str, str]) -> None:
    assert REGISTRY.get_sample_value(name, labels) is not None


def test_a_consumers_series_are_there_before_it_has_done_anything() -> None:
    ConsumerMeter("some_group", "some_stage")
    for name in ("claims", "failures", "buried", "broker_waits"):
        assert REGISTRY.get_sample_value(f"sgaps_{name}_total", {"group": "some_group"}) == 0
    for name in ("stage_seconds", "queue_wait_seconds", "batch_size"):
        assert REGISTRY.get_sample_value(f"sgaps_{name}_count", {"stage": "some_stage"}) == 0


def test_waits_are_never_negative() -> None:
    meter = ConsumerMeter("g", "waiting_stage")
    meter.begin([time.time() - 2, time.time() + 5])
    labels = {"stage": "waiting_stage"}
    assert REGISTRY.get_sample_value("sgaps_queue_wait_seconds_count", labels) == 2
    waited_secs = REGISTRY.get_sample_value("sgaps_queue_wait_seconds_sum", labels)
    assert waited_secs is not None
    assert 2 <= waited_secs < 4


def test_a_model_that_was_swapped_is_told_no_longer() -> None:
    serve_models({"default": "v1", "doom": "v1"})
    serve_models({"default": "v1", "doom": "v2"})
    told = [
        sample.labels
        for family in REGISTRY.collect()
        if family.name == "sgaps_model_info"
        for sample in family.samples
    ]
    assert sorted((x["checkpoint_key"], x["model_version"]) for x in told) == [
        ("default", "v1"),
        ("doom", "v2"),
    ]


def test_the_brokers_series_are_gone_when_nobody_asked_it_lately() -> None:
    registry, collector = CollectorRegistry(), BrokerCollector()
    registry.register(collector)
    assert generate_latest(registry) == b""
    collector.state = state(read_at_secs=time.monotonic())
    labels = {"stream": "sgaps:frames", "group": "recorder"}
    assert registry.get_sample_value("sgaps_stream_pending", labels) == 3
    assert registry.get_sample_value("sgaps_stream_oldest_undelivered_seconds", labels) == 1.5
    assert registry.get_sample_value("sgaps_ledger_frames_total", {"column": "received"}) == 0
    collector.state = state(read_at_secs=time.monotonic() - STALE_SECS)
    assert generate_latest(registry) == b""


def state(read_at_secs: float) -> BrokerState:
    return BrokerState(
        ledger=dict.fromkeys(COLUMNS, 0),
        groups={("sgaps:frames", "recorder"): GroupState(pending=3, oldest_undelivered_secs=1.5)},
        read_at_secs=read_at_secs,
    )


def test_a_port_that_is_taken_is_a_wrong_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"metrics_port {port} .* free one"):
            serve_metrics("127.0.0.1", port)


def test_a_metrics_host_that_is_no_address_is_told_apart_from_a_port_in_use() -> None:
    with pytest.raises(SettingsError, match=r"metrics_host=a\.invalid is no address: "):
        serve_metrics("a.invalid", 9400)
