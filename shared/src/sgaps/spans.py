"""Spans in OpenTelemetry's form, sent over OTLP/HTTP by a thread. Needs the extra `tracing`.

A stage knows a span only when it is over, and several frames share one piece of work: so spans are
made whole, with ids of our own, and there is no tracer that would keep a current one.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from sgaps.bus.connection import shown
from sgaps.settings import TracingSettings

log = logging.getLogger(__name__)

QUEUE_SPANS = 4096
"""Kept for a collector that is slow or away; more are dropped, and no frame waits."""
EVERY_MILLIS = 1000
EXPORT_TIMEOUT_SECS = 2.0
"""Of one batch, all attempts together; also what a dead collector costs a service that ends."""
SCOPE = InstrumentationScope("sgaps")

Attributes: TypeAlias = Mapping[str, str | int | float]


class Spans:
    """What a process tells of traced frames."""

    def __init__(self, settings: TracingSettings, *, service: str, instance: str) -> None:
        # We tell it once; OpenTelemetry would with every batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._ratio = settings.sample_ratio
        self._resource = Resource.create(
            {
                "service.name": f"sgaps-{service}",
                "service.instance.id": instance,
                "process.pid": os.getpid(),
            }
        )
        inner = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_TIMEOUT_SECS)
        self._exporter = _TellsOnce(inner, shown(settings.endpoint))
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=QUEUE_SPANS, schedule_delay_millis=EVERY_MILLIS
        )

    def new_traceparent(self) -> str:
        """Of a frame that begins its way; empty where chance leaves it out."""
        if random.random() >= self._ratio:
            return ""
        return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"

    def begin(self, traceparent: str, stage: str, started_at_secs: float, told: Attributes) -> str:
        """The first span of a trace, which lasts until now."""
        return self._add(_context(traceparent), None, stage, started_at_secs, told)

    def follow(self, traceparent: str, stage: str, started_at_secs: float, told: Attributes) -> str:
        """A span below the one of the traceparent; its own traceparent."""
        parent = _context(traceparent)
        own = _context(f"{traceparent[:36]}{secrets.token_hex(8)}-01")
        return self._add(own, parent, stage, started_at_secs, told)

    def _add(
        self,
        own: SpanContext,
        parent: SpanContext | None,
        stage: str,
        started_at_secs: float,
        told: Attributes,
    ) -> str:
        span = ReadableSpan(
            stage,
            context=own,
            parent=parent,
            resource=self._resource,
            attributes=told,
            start_time=int(started_at_secs * 1e9),
            end_time=time.time_ns(),
            instrumentation_scope=SCOPE,
        )
        self._processor.on_end(span)
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-01"

    def close(self) -> None:
        """Send what is left, within EXPORT_TIMEOUT_SECS where nobody listens."""
        self._exporter.closing = True
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(traceparent: str) -> SpanContext:
    return SpanContext(
        trace_id=int(traceparent[3:35], 16),
        span_id=int(traceparent[36:52], 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


class _TellsOnce(SpanExporter):
    """An exporter whose trouble is one line, and its end another."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner, self._endpoint, self._failing = inner, endpoint, False
        self.closing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._failing and self.closing:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("no collector takes our spans at %s; frames go on", self._endpoint)
        if self._failing and not failed:
            log.info("the collector takes spans again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()
