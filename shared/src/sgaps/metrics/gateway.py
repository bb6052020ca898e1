"""What a gateway counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sgaps.errors import ErrorCode
from sgaps.metrics import LATENCY_BUCKETS_SECS, begin_stage

PSNR_BUCKETS_DB = (15, 17.5, 20, 22.5, 25, 27.5, 30, 32.5, 35, 37.5, 40, 42.5, 45)

FRAMES_RECEIVED = Counter("sgaps_frames_received", "Clients' frames accepted")
FRAMES_DELIVERED = Counter("sgaps_frames_delivered", "Clients' frames answered with coordinates")
MESSAGES_REFUSED = Counter("sgaps_messages_refused", "Client messages refused", ["code"])
SOCKETS = Gauge(
    "sgaps_sockets",
    "Open sockets: those that wait for their session, and those that play",
    ["state"],
)
CLIENT_BYTES = Counter(
    "sgaps_client_bytes", "Bytes of messages from clients (up) and to them (down)", ["direction"]
)
END_TO_END_SECS = Histogram(
    "sgaps_end_to_end_seconds",
    "From frame accepted to coordinates sent, by the gateway's clock",
    buckets=LATENCY_BUCKETS_SECS,
)
PREDICTED_PSNR_DB = Histogram(
    "sgaps_predicted_psnr_db",
    "What the model expects of the frames that were delivered",
    buckets=PSNR_BUCKETS_DB,
)
PROBE_SECS = Histogram(
    "sgaps_probe_seconds",
    "From probe sent to coordinates received, by the gateway's clock",
    buckets=LATENCY_BUCKETS_SECS,
)
PROBES = Counter(
    "sgaps_probes",
    "Probes by outcome; lost: not sent, or not answered by the next one",
    ["outcome"],
)
PROBE_ANSWERED_AT_SECS = Gauge(
    "sgaps_probe_answered_timestamp_seconds",
    "When a probe was last answered; before the first, when they began; 0 where none are sent",
)
PROBE_RECORDED_AT_SECS = Gauge(
    "sgaps_probe_recorded_timestamp_seconds",
    "When the recorder was last seen to have confirmed a new probe; "
    "before the first, when they began; 0 where none are sent",
)

WAITING, PLAYING = SOCKETS.labels("waiting"), SOCKETS.labels("playing")
BYTES_UP, BYTES_DOWN = CLIENT_BYTES.labels("up"), CLIENT_BYTES.labels("down")
PROBES_ANSWERED, PROBES_LOST = PROBES.labels("answered"), PROBES.labels("lost")
for code in ErrorCode:
    MESSAGES_REFUSED.labels(code.value)
begin_stage("accept")
