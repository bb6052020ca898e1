"""Prometheus metrics of the pipeline, service-level labels only (never a session id)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS_SECS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

FRAMES_RECEIVED = Counter("sgaps_frames_received", "Frames accepted by the gateway")
FRAMES_DELIVERED = Counter("sgaps_frames_delivered", "Frames answered with coordinates")
FRAMES_REFUSED = Counter("sgaps_messages_refused", "Client messages refused", ["code"])
FRAMES_RECORDED = Counter("sgaps_frames_recorded", "Frames on disk, fsynced")
RECORDED_BYTES = Counter("sgaps_recorded_bytes", "Bytes of recorded frames")
SEGMENTS_DELETED = Counter("sgaps_segments_deleted", "Trained segments that were too old or many")
DELETED_BYTES = Counter("sgaps_deleted_bytes", "Bytes of the segments that were deleted")
END_TO_END_SECS = Histogram(
    "sgaps_end_to_end_seconds",
    "From frame accepted to coordinates sent, on the gateway's clock",
    buckets=LATENCY_BUCKETS_SECS,
)
STAGE_SECS = Histogram(
    "sgaps_stage_seconds", "Work of one stage on one batch", ["stage"], buckets=LATENCY_BUCKETS_SECS
)
BATCH_SIZE = Histogram(
    "sgaps_batch_size", "Frames in one batch", ["stage"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
SESSIONS = Gauge("sgaps_sessions_connected", "Sessions with an open socket")
MODEL_RELOADS = Counter("sgaps_model_reloads", "Checkpoints swapped in")
TRAINING_RUNS = Counter("sgaps_training_runs", "Training runs by outcome", ["outcome"])


@contextmanager
def stage(name: str, batch_size: int = 1) -> Iterator[None]:
    """Time one stage on one batch."""
    start_secs = time.perf_counter()
    BATCH_SIZE.labels(name).observe(batch_size)
    try:
        yield
    finally:
        STAGE_SECS.labels(name).observe(time.perf_counter() - start_secs)


def serve_metrics(host: str, port: int) -> None:
    """Expose /metrics of this process; port 0 means not at all."""
    if port:
        start_http_server(port, host)
