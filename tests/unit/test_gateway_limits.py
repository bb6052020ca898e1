"""What one client may ask for: by the clock, without a gateway."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from gateway import limits
from gateway.limits import FRAME_BYTES, ClientLimits
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.settings import load_settings

MESSAGE_BYTES = 100_000
BYTES_PER_SEC = 2 * MESSAGE_BYTES + FRAME_BYTES * 10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one element is the time in seconds: a while after all limits began."""
    now_secs = [time.monotonic() + 60]
    monkeypatch.setattr(time, "monotonic", lambda: now_secs[0])
    return now_secs


@pytest.fixture
def client(clock: list[float]) -> ClientLimits:
    overrides = [f"server.max_message_bytes={MESSAGE_BYTES}", "server.max_frame_rate=10"]
    return ClientLimits(load_settings(overrides, environment={}))


def refusal_of(ask: Callable[[], None]) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        ask()
    return caught.value


def wait_secs_of(refused: ProtocolError) -> float:
    assert refused.retry_after_secs is not None
    return refused.retry_after_secs


def test_bytes_beyond_a_second_s_worth_are_refused_until_there_is_room(
    client: ClientLimits, clock: list[float]
) -> None:
    left = BYTES_PER_SEC
    while left >= MESSAGE_BYTES:
        client.take_message(bytes(MESSAGE_BYTES), MESSAGE_BYTES)
        left -= MESSAGE_BYTES
    refused = refusal_of(lambda: client.take_message(bytes(MESSAGE_BYTES), MESSAGE_BYTES))
    assert refused.code is ErrorCode.RATE_LIMITED
    assert wait_secs_of(refused) == pytest.approx((MESSAGE_BYTES - left) / BYTES_PER_SEC)
    clock[0] += wait_secs_of(refused) + 1e-6
    client.take_message(bytes(MESSAGE_BYTES), MESSAGE_BYTES)


@pytest.mark.parametrize("raw", ["{}", "\u20ac", b"\0\1", "\U0001f600"])
def test_a_message_is_as_long_as_it_was_on_the_line(raw: str | bytes) -> None:
    assert limits.sent_bytes(raw) == len(raw if isinstance(raw, bytes) else raw.encode())


def test_messages_are_counted_however_short(client: ClientLimits) -> None:
    for _ in range(2 * 10 + limits.HEARTBEATS_PER_SEC):
        client.take_message(b"{}", 2)
    refused = refusal_of(lambda: client.take_message(b"{}", 2))
    assert refused.code is ErrorCode.RATE_LIMITED
    assert wait_secs_of(refused) == pytest.approx(1 / 30)


def test_keyframes_come_as_often_as_they_are_asked_for(
    client: ClientLimits, clock: list[float]
) -> None:
    for _ in range(2):  # ten frames a second, and every fifth one whole
        client.take_keyframe()
    refused = refusal_of(client.take_keyframe)
    assert refused.code is ErrorCode.BAD_KEYFRAME
    clock[0] += 0.5
    client.take_keyframe()


def test_a_message_of_too_many_values_is_not_even_parsed(client: ClientLimits) -> None:
    many = "0," * (FRAME_BYTES // 2 + 1)
    refused = refusal_of(lambda: client.take_message(many, len(many)))
    assert refused.code is ErrorCode.TOO_MANY_SAMPLES


@pytest.mark.parametrize("code", [ErrorCode.OVERLOADED, ErrorCode.UNKNOWN_SET])
def test_nobody_is_cut_off_for_a_full_server_or_a_long_line(
    client: ClientLimits, code: ErrorCode
) -> None:
    full = ProtocolError(code, "full")
    wrong = ProtocolError(ErrorCode.BAD_JSON, "no JSON")
    for _ in range(limits.REFUSALS_AT_ONCE):
        client.take_refusal(full)
        client.take_refusal(wrong)
    client.take_refusal(full)
    last = refusal_of(lambda: client.take_refusal(wrong))
    assert last.code is ErrorCode.RATE_LIMITED
    assert "no JSON" in str(last)
