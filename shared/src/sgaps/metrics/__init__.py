"""Prometheus metrics: here those of every service, each service's own in the module of its name.

A process exposes what it has imported, so each service tells its own. Labels are of the service,
never of a session. docs/monitoring.md lists them all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version

from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from sgaps.errors import SettingsError

# They are a series beside each counter that tells when its process began.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_BUCKETS_SECS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

READY = Gauge("sgaps_ready", "1 where the process can do its work now, as its heartbeat tells")
BUILD_INFO = Gauge("sgaps_build_info", "1; the release that runs", ["version"])
STAGE_SECS = Histogram(
    "sgaps_stage_seconds", "Work of one stage on one batch", ["stage"], buckets=LATENCY_BUCKETS_SECS
)
QUEUE_WAIT_SECS = Histogram(
    "sgaps_queue_wait_seconds",
    "From an entry's publication, by the broker's clock, to the start of work on it, by ours",
    ["stage"],
    buckets=LATENCY_BUCKETS_SECS,
)
BATCH_SIZE = Histogram(
    "sgaps_batch_size",
    "Entries in one batch",
    ["stage"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
CLAIMS = Counter(
    "sgaps_claims", "Entries taken over from a consumer that died or failed", ["group"]
)
FAILURES = Counter("sgaps_failures", "Entries whose handler failed, each attempt", ["group"])
BURIED = Counter("sgaps_buried", "Entries given to sgaps:dead", ["group"])
BROKER_WAITS = Counter("sgaps_broker_waits", "Times a loop began to wait for the broker", ["group"])

BUILD_INFO.labels(version("sgaps")).set(1)


class ConsumerMeter:
    """What one consumer counts. Its series are looked up once: that costs more than counting."""

    def __init__(self, group: str, stage: str | None) -> None:
        """`stage` None: nobody asks how long these entries waited."""
        self.claims = CLAIMS.labels(group)
        self.failures = FAILURES.labels(group)
        self.buried = BURIED.labels(group)
        self.broker_waits = BROKER_WAITS.labels(group)
        self._queue_wait_secs = QUEUE_WAIT_SECS.labels(stage) if stage else None
        if stage:
            begin_stage(stage)

    def begin(self, published_at_secs: Iterable[float]) -> None:
        """Work begins on entries of these times. Where our clock is behind, none has waited."""
        if self._queue_wait_secs is not None:
            now_secs = time.time()
            for at_secs in published_at_secs:
                self._queue_wait_secs.observe(max(0.0, now_secs - at_secs))


@cache
def begin_stage(name: str) -> tuple[Histogram, Histogram]:
    """A stage's seconds and batch sizes, there before its first batch; looked up once."""
    return STAGE_SECS.labels(name), BATCH_SIZE.labels(name)


class stage:  # noqa: N801 - used as a function; one of contextlib's costs a frame 0.7 µs more
    """Time one stage on one batch."""

    __slots__ = ("_secs", "_started_at_secs")

    def __init__(self, name: str, batch_size: int = 1) -> None:
        self._secs, sizes = begin_stage(name)
        sizes.observe(batch_size)

    def __enter__(self) -> None:
        self._started_at_secs = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._secs.observe(time.perf_counter() - self._started_at_secs)


def serve_metrics(host: str, port: int) -> None:
    """Expose /metrics of this process; port 0 means not at all. Raises SettingsError."""
    if not port:
        return
    try:
        start_http_server(port, host)
    except socket.gaierror as error:
        raise SettingsError(f"metrics_host={host} is no address: {error.strerror}") from error
    except OSError as error:
        raise SettingsError(
            f"metrics_port {port} of {host} cannot be listened on: {error.strerror}; give each "
            "service of a machine a free one, or 0 for none"
        ) from error
