"""What belongs to the broker, told by the one process that asks it: the recorder's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STALE_SECS = 4.0
"""A state that is older says nothing any more: better no series than one that lies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupState:
    """How far a consumer group is."""

    pending: int
    oldest_undelivered_secs: float


@dataclass(frozen=True, kw_only=True)
class BrokerState:
    """Everything that was asked at once."""

    ledger: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    lengths: Mapping[str, int] = field(default_factory=dict)
    """By stream."""
    groups: Mapping[tuple[str, str], GroupState] = field(default_factory=dict)
    """By stream and group."""
    dead_letters: int = 0
    services: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By service and state: how many."""
    read_at_secs: float = field(default_factory=time.monotonic)


class BrokerCollector(Collector):
    """Exposes the newest state, as long as it is new."""

    def __init__(self) -> None:
        self.state: BrokerState | None = None

    def collect(self) -> Iterator[Metric]:
        state = self.state
        if state is not None and time.monotonic() - state.read_at_secs < STALE_SECS:
            yield from families(state)

    def describe(self) -> Iterator[Metric]:
        """Names alone, for the registry."""
        return families(BrokerState())


def families(state: BrokerState) -> Iterator[Metric]:
    """A state as Prometheus has it."""
    ledger = CounterMetricFamily(
        "sgaps_ledger_frames", "The frame ledger as it stands", labels=["column"]
    )
    for column, frames in state.ledger.items():
        ledger.add_metric([column], frames)
    yield ledger
    yield GaugeMetricFamily(
        "sgaps_frames_in_flight", "Frames received that have not ended", value=state.in_flight
    )
    lengths = GaugeMetricFamily("sgaps_stream_length", "Entries of a stream", labels=["stream"])
    for stream, entries in state.lengths.items():
        lengths.add_metric([stream], entries)
    yield lengths
    yield from _group_families(state.groups)
    yield GaugeMetricFamily("sgaps_dead_letters", "Entries of sgaps:dead", value=state.dead_letters)
    services = GaugeMetricFamily(
        "sgaps_services", "Processes with a fresh heartbeat", labels=["service", "state"]
    )
    for names, processes in state.services.items():
        services.add_metric(names, processes)
    yield services


def _group_families(groups: Mapping[tuple[str, str], GroupState]) -> Iterator[Metric]:
    oldest = GaugeMetricFamily(
        "sgaps_stream_oldest_undelivered_seconds",
        "Age of the oldest entry that a group was not given yet, by the broker's clock; 0 without",
        labels=["stream", "group"],
    )
    pending = GaugeMetricFamily(
        "sgaps_stream_pending",
        "Entries given to a group and not acknowledged",
        labels=["stream", "group"],
    )
    for names, group in groups.items():
        oldest.add_metric(names, group.oldest_undelivered_secs)
        pending.add_metric(names, group.pending)
    yield oldest
    yield pending
