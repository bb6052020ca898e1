"""The trail of a frame through the stages: a line at DEBUG, and a span where the frame is traced.

Whether a frame is traced is decided once, by the gateway: its message carries a W3C `traceparent`
or none. OpenTelemetry (the extra `tracing`) is imported only where `tracing.endpoint` is set;
without it a process hands on what it was given.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sgaps.errors import SettingsError
from sgaps.logs import OfAFrame, frame_ids
from sgaps.settings import TracingSettings

if TYPE_CHECKING:
    from sgaps.spans import Spans

log = logging.getLogger(__name__)

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01")
"""That of a sampled frame; others are not carried."""
REDIS_ID = re.compile(r"(\d{13})-\d+")

_spans: Spans | None = None


def start(settings: TracingSettings, *, service: str, instance: str) -> Callable[[], None]:
    """Trace from now on, if an endpoint is set; what ends it. Raises SettingsError."""
    global _spans  # noqa: PLW0603 - one for each process, like the log
    if not settings.endpoint:
        return lambda: None
    try:
        from sgaps.spans import Spans  # noqa: PLC0415 - 0.3 s and megabytes that few want
    except ImportError as error:
        raise SettingsError(
            "tracing.endpoint needs OpenTelemetry: "
            f"pip install './shared[tracing]' in the repository ({error})"
        ) from error
    _spans = Spans(settings, service=service, instance=instance)
    return _spans.close


def new_traceparent() -> str:
    """For a frame that begins its way: sampled or, mostly, empty."""
    return _spans.new_traceparent() if _spans else ""


def passed(
    stage: str,
    frame: OfAFrame,
    *,
    started_at_secs: float,
    entry_id: str = "",
    batch_size: int = 1,
    **told: str,
) -> str:
    """A stage has done a frame, from then (wall clock) until now; the traceparent to go on with.

    `entry_id` is that of the stream entry it came in, which tells since when it waited; none: the
    frame begins its way here. What else is `told` becomes attributes, `a_b` as `a.b`.
    """
    if log.isEnabledFor(logging.DEBUG):
        took_ms = (time.time() - started_at_secs) * 1000
        said = "".join(f", {value}" for value in told.values())
        log.debug("%s: %.1f ms%s", stage, took_ms, said, extra=frame_ids(frame))
    if _spans is None or not TRACEPARENT.fullmatch(frame.traceparent):
        return frame.traceparent
    attributes: dict[str, str | int | float] = {
        "session.id": frame.session_id,
        "frame.id": frame.frame_id,
        "batch.size": batch_size,
        **{name.replace("_", "."): value for name, value in told.items() if value},
    }
    if not entry_id:
        return _spans.begin(frame.traceparent, stage, started_at_secs, attributes)
    if queued := REDIS_ID.fullmatch(entry_id):
        attributes["queue.wait_secs"] = max(0.0, started_at_secs - int(queued[1]) / 1000)
    return _spans.follow(frame.traceparent, stage, started_at_secs, attributes)
