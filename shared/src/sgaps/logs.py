"""Lines of a log: JSON for machines, text for people; the ids of a frame where a line is about one.

Log with the standard library: `log.info("…", extra=frame_ids(message))`.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias

from pythonjsonlogger.json import JsonFormatter

LogForm: TypeAlias = Literal["text", "json"]

IDS = ("session_id", "frame_id", "trace_id")
FIELDS = ("time", "level", "service", "instance", "logger", "message", "exception", *IDS)
"""Of a JSON line. Nothing else that libraries hang on their records comes through."""


class OfAFrame(Protocol):
    """A message about one frame of one session."""

    @property
    def session_id(self) -> str: ...
    @property
    def frame_id(self) -> int: ...
    @property
    def traceparent(self) -> str: ...


def frame_ids(frame: OfAFrame) -> dict[str, object]:
    """What a line about a frame takes as `extra`."""
    ids: dict[str, object] = {"session_id": frame.session_id, "frame_id": frame.frame_id}
    trace_id = frame.traceparent[3:35]  # W3C: version, trace, span, flags
    return ids | {"trace_id": trace_id} if trace_id else ids


def ids_if_any(message: object) -> dict[str, object]:
    """The same for a message of any kind: nothing where it is not about a frame."""
    return frame_ids(message) if hasattr(message, "traceparent") else {}  # type: ignore[arg-type]


def configure(form: LogForm, level: str, *, service: str, instance: str) -> None:
    """Send every line of this process to stderr in one form, also warnings and what ends it.

    DEBUG is for our own modules: those of others would show whole messages, with tokens in them.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Json(service, instance) if form == "json" else _Text(service),
    )
    logging.basicConfig(handlers=[handler], level=max(logging.INFO, _number(level)), force=True)
    for ours in ("sgaps", service):
        logging.getLogger(ours).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _tell_the_end


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level]


def _tell_the_end(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger(__name__).critical("a bug ends it", exc_info=(kind, error, trace))


class _Json(JsonFormatter):
    """One line, one object, in ASCII."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            static_fields={"service": service, "instance": instance},
            timestamp="time",  # RFC 3339, UTC
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {field: log_data[field] for field in FIELDS if field in log_data}


class _Text(logging.Formatter):
    """A line that nothing from outside can break in two."""

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {service} %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        ids = " ".join(f"{name}={getattr(record, name)}" for name in IDS if hasattr(record, name))
        line = super().formatMessage(record)
        return shown(f"{line} [{ids}]" if ids else line)

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - as logging declares it
        """Indented, so that no line of it passes for one of the log."""
        return "\n".join(f"    {shown(line)}" for line in super().formatException(ei).split("\n"))


def shown(text: str) -> str:
    """What ends lines or controls a terminal is written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
