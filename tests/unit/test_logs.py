"""Lines of a log: in both forms, whole, with the ids, and nothing in them can forge another."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable

import pytest

from sgaps import logs

EVIL = "a\n2026-01-01 CRITICAL gateway forged\r\x1b[2J\u2028\x85\ud800"


@pytest.fixture
def configured(
    restored_logging: None, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Callable[[], str]]:
    """Configure this process for a moment; what it said since."""

    def configure(form: logs.LogForm, level: str = "INFO") -> Callable[[], str]:
        logs.configure(form, level, service="gateway", instance="one")
        return lambda: capsys.readouterr().err

    return configure


def fail() -> None:
    raise ValueError(EVIL)


def say_everything() -> None:
    log = logging.getLogger("gateway.connection")
    log.warning("of %s", EVIL, extra={"session_id": EVIL, "frame_id": 3, "secret": "pixels"})
    try:
        fail()
    except ValueError:
        log.exception("it failed")


def test_json_lines_are_whole_objects(configured: Callable[..., Callable[[], str]]) -> None:
    said = configured("json")
    say_everything()
    first, second = map(json.loads, said().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "service": "gateway",
        "instance": "one",
        "logger": "gateway.connection",
        "message": f"of {EVIL}",
        "session_id": EVIL,
        "frame_id": 3,
    }
    assert "ValueError" in second["exception"]


def test_a_line_of_text_cannot_be_forged(configured: Callable[..., Callable[[], str]]) -> None:
    said = configured("text")
    say_everything()
    first, second, *trace = said().splitlines()
    assert "forged" in first
    assert "frame_id=3" in first
    assert "it failed" in second
    assert all(line.startswith("    ") for line in trace)
    assert "ValueError" in trace[-2] or "ValueError" in trace[-1]
    assert "\x1b" not in "".join([first, *trace])


def test_lines_of_others_take_the_same_form(configured: Callable[..., Callable[[], str]]) -> None:
    said = configured("json", "DEBUG")
    logging.getLogger("uvicorn.error").error("from uvicorn")
    logging.getLogger("redis.connection").warning("from redis")
    warnings.warn("from Python", stacklevel=1)
    sys.excepthook(ZeroDivisionError, ZeroDivisionError("a bug"), None)
    logging.getLogger("websockets.server").debug("< TEXT 'a token'")
    logging.getLogger("gateway.connection").debug("ours")
    lines = [json.loads(line) for line in said().splitlines()]
    assert [line["logger"] for line in lines] == [
        "uvicorn.error",
        "redis.connection",
        "py.warnings",
        "sgaps.logs",
        "gateway.connection",
    ]
    assert "ZeroDivisionError: a bug" in lines[3]["exception"]
