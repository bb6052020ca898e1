"""The protocol client against a real socket that breaks, forgets and refuses."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import numpy as np
import pytest

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import Error, FrameData, Keyframe
from sgaps_client import client as client_module
from sgaps_client.client import SgapsClient
from sgaps_client.pictures import encoded_png
from sgaps_client.state import SessionAccount, SessionConfig
from unit.scripted_gateway import CENTRE_OF_PIXEL_1_2, ScriptedGateway, decoded_keyframe
from waiting import eventually

WORDS = "open sesame"
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
STATE = np.array([1.5, -999.0, 3.0], np.float32)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_SECS", 0.01)
    monkeypatch.setattr(client_module, "HEARTBEAT_SECS", 0.02)


def client_of(
    gateway: ScriptedGateway, on_answer: Callable[[CoordinateSet], None] = lambda _: None
) -> SgapsClient:
    config = SessionConfig(
        url=gateway.url, checkpoint_key="doom", width=8, height=6, state_dim=3, auth_token=WORDS
    )
    return SgapsClient(config, on_answer=on_answer)


async def send(client: SgapsClient, count: int) -> list[int]:
    sent = [await client.send_frame(IMAGE, STATE, keyframe_png=None) for _ in range(count)]
    return [frame.frame_id for frame in sent if frame is not None]


async def send_until_refused(client: SgapsClient) -> None:
    for _ in range(100):
        await send(client, 1)
        await asyncio.sleep(0.005)


async def test_a_frame_is_sampled_where_the_server_asked() -> None:
    gateway = ScriptedGateway()
    answers: list[int] = []

    def note(answer: CoordinateSet) -> None:
        answers.append(answer.frame_id)

    async with gateway.running(), client_of(gateway, note) as client:
        assert await send(client, 1) == [0]
        await eventually(lambda: answers == [0])
        assert await send(client, 1) == [1]
        await eventually(lambda: client.state.account.is_complete)
    first, second = gateway.frames["session-0"]
    u, v = CENTRE_OF_PIXEL_1_2
    np.testing.assert_allclose(first.pixels, [(u, v, IMAGE[2, 1] / 255, 1)], atol=1e-6)
    assert first.state_vector == [1.5, -999.0]  # cut to the server's max_state_dim
    assert (first.coordinate_set_id, second.coordinate_set_id) == (0, 1)
    assert client.state.account.accepted == client.state.account.recorded == 2
    assert client.state.bytes_up > 0 < client.state.bytes_down


async def test_squares_are_sampled_where_the_server_takes_them() -> None:
    gateway = ScriptedGateway(coords=((0.25, 0.5, 2), (0, 0, 1)), features=["footprint"])
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 1)
        await eventually(lambda: client.state.account.is_complete)
    (start,) = gateway.starts
    assert start.client is not None
    assert "footprint" in start.client.features
    (frame,) = gateway.frames["session-0"]
    assert frame.pixels[:, 3].tolist() == [2, 1]
    assert frame.pixels[0, 2] == pytest.approx(IMAGE[2:4, 1:3].mean() / 255, abs=0.5 / 255 + 1e-6)


async def test_the_session_is_introduced() -> None:
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway):
        (start,) = gateway.starts
    assert (start.checkpoint_key, start.auth_token, start.max_state_dim) == ("doom", WORDS, 3)
    assert (start.resolution.width, start.resolution.height) == (8, 6)
    assert start.client is not None
    assert start.client.name == "sgaps_client"


async def test_a_keyframe_goes_before_its_frame_when_the_server_wants_one() -> None:
    gateway = ScriptedGateway(keyframe_interval=2)
    async with gateway.running(), client_of(gateway) as client:
        wanted = []
        for _ in range(4):
            wanted.append(client.wants_keyframe())
            png = encoded_png(IMAGE) if wanted[-1] else None
            await client.send_frame(IMAGE, STATE, keyframe_png=png)
        await eventually(lambda: len(gateway.frames["session-0"]) == 4)
    assert wanted == [True, False, True, False]
    kinds = [(m.type, m.frame_id) for m in gateway.received if isinstance(m, Keyframe | FrameData)]
    assert kinds == [
        ("keyframe", 0),
        ("frame_data", 0),
        ("frame_data", 1),
        ("keyframe", 2),
        ("frame_data", 2),
        ("frame_data", 3),
    ]
    keyframes = [m for m in gateway.received if isinstance(m, Keyframe)]
    np.testing.assert_array_equal(decoded_keyframe(keyframes[0]), IMAGE)


async def test_a_broken_connection_is_resumed_and_ids_go_on() -> None:
    gateway = ScriptedGateway(drop_at_frames={3})
    async with gateway.running(), client_of(gateway) as client:
        assert await send(client, 4) == [0, 1, 2, 3]
        await eventually(lambda: len(gateway.starts) == 2)
        assert await send(client, 3) == [4, 5, 6]
        await eventually(lambda: client.state.account.is_complete)
    assert [start.resume_session_id for start in gateway.starts] == [None, "session-0"]
    assert gateway.frame_ids("session-0") == [0, 1, 2, 4, 5, 6]
    account = client.state.account
    assert (account.sent, account.lost, account.accepted, account.recorded) == (7, 1, 6, 6)
    assert account.resumed == 1


async def test_a_connection_without_a_word_is_given_up_and_resumed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither closed nor cut: the other side just says nothing any more."""
    monkeypatch.setattr(client_module, "SILENCE_TIMEOUT_SECS", 0.5)
    gateway = ScriptedGateway(freeze_at_frame=1)
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 2)
        await eventually(lambda: len(gateway.starts) == 2)
        assert await send(client, 1) == [2]
        await eventually(lambda: client.state.account.is_complete)
    assert [start.resume_session_id for start in gateway.starts] == [None, "session-0"]
    assert "connection lost (not a word for 0.5 s)" in caplog.text


async def test_a_connection_on_which_only_heartbeats_are_answered_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_TIMEOUT_SECS", 0.5)
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway):
        await asyncio.sleep(1.2)
    assert len(gateway.starts) == 1


async def test_a_second_break_does_not_count_the_first_loss_again() -> None:
    gateway = ScriptedGateway(drop_at_frames={1, 2})
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 2)
        await eventually(lambda: len(gateway.starts) == 2)
        await send(client, 1)
        await eventually(lambda: len(gateway.starts) == 3)
        assert await send(client, 1) == [3]
        await eventually(lambda: client.state.account.is_complete)
    assert (client.state.account.lost, client.state.account.accepted) == (2, 2)


async def test_a_server_that_restarts_is_waited_for() -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        client = client_of(gateway)
        await client.__aenter__()
        await send(client, 2)
        await eventually(lambda: len(gateway.frames["session-0"]) == 2)
    sending = asyncio.create_task(send(client, 1))
    await asyncio.sleep(0.05)
    assert not sending.done()
    async with gateway.running():
        assert await sending == [2]
        await client.__aexit__(None, None, None)
    assert gateway.starts[-1].resume_session_id == "session-0"


async def test_a_session_nobody_remembers_becomes_a_new_one() -> None:
    gateway = ScriptedGateway(drop_at_frames={2}, forgets_sessions=True)
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 2)
        await eventually(lambda: client.state.account.is_complete)
        await send(client, 1)
        await eventually(lambda: len(gateway.starts) == 3)
        assert await send(client, 2) == [0, 1]
        await eventually(lambda: client.state.account.is_complete)
    assert [s.resume_session_id for s in gateway.starts] == [None, "session-0", None]
    assert [(a.sent, a.lost, a.recorded) for a in client.state.accounts] == [(3, 1, 2), (2, 0, 2)]


@pytest.mark.parametrize(
    "code", ["unauthorized", "bad_message", "session_mismatch", "session_not_found", "new_code"]
)
async def test_a_hopeless_refusal_is_raised(code: str) -> None:
    gateway = ScriptedGateway(refuse_starts=[Error(code=code, message="no", fatal=True)] * 9)
    if code == "new_code":  # a code of a newer server: come back, it may pass
        gateway.refuse_starts = gateway.refuse_starts[:1]
        async with gateway.running(), client_of(gateway):
            assert len(gateway.starts) == 2
        return
    async with gateway.running():
        with pytest.raises(ProtocolError) as caught:
            await client_of(gateway).__aenter__()
    assert caught.value.code == code
    assert len(gateway.starts) == 1


async def test_a_hopeless_refusal_later_reaches_the_sender() -> None:
    taken_over = Error(code="session_taken_over", message="elsewhere", fatal=True)
    gateway = ScriptedGateway(refuse_frames={1: taken_over})
    async with gateway.running(), client_of(gateway) as client:
        with pytest.raises(ProtocolError, match="session_taken_over"):
            await send_until_refused(client)


async def test_a_late_start_is_tried_again() -> None:
    late = Error(code="start_timeout", message="no session_start in 10 s", fatal=True)
    gateway = ScriptedGateway(refuse_starts=[late, late])
    async with gateway.running(), client_of(gateway) as client:
        assert await send(client, 1) == [0]
    assert len(gateway.starts) == 3


@pytest.mark.parametrize(("chance", "pause_secs"), [(0.5, 0.5), (1.0, 0.7)])
async def test_the_pause_a_full_server_asks_for_is_prolonged_by_chance(
    monkeypatch: pytest.MonkeyPatch, chance: float, pause_secs: float
) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_SECS", 0.4)
    monkeypatch.setattr(random, "uniform", lambda _low, _high: chance)
    refusal = Error(code="too_many_sessions", message="full", fatal=True, retry_after_secs=0.3)
    gateway = ScriptedGateway(refuse_starts=[refusal])
    started_at_secs = time.monotonic()
    async with gateway.running(), client_of(gateway):
        assert time.monotonic() - started_at_secs >= pause_secs


async def dropped(client: SgapsClient, gateway: ScriptedGateway) -> None:
    """Play until each connection that the gateway drops is there again."""
    for count in range(1, len(gateway.drop_at_frames) + 1):
        await send(client, 1)
        await eventually(lambda count=count: len(gateway.starts) > count)  # type: ignore[misc]


async def test_the_pauses_grow_while_sessions_end_as_soon_as_they_have_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_SECS", 0.05)
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    gateway = ScriptedGateway(drop_at_frames={0, 1, 2, 3})
    started_at_secs = time.monotonic()
    async with gateway.running(), client_of(gateway) as client:
        await dropped(client, gateway)
    assert time.monotonic() - started_at_secs >= 0.05 + 0.1 + 0.2 + 0.4


async def test_after_a_session_that_lasted_the_pauses_begin_small_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "STEADY_SECS", 0.0)
    monkeypatch.setattr(client_module, "MAX_BACKOFF_SECS", 3600.0)
    gateway = ScriptedGateway(drop_at_frames=set(range(16)))  # else they would add up to minutes
    async with gateway.running(), client_of(gateway) as client:
        await dropped(client, gateway)
    assert len(gateway.starts) == 17


async def test_a_refused_frame_makes_the_sender_pause() -> None:
    slower = Error(code="rate_limited", message="slower", retry_after_secs=0.3)
    gateway = ScriptedGateway(refuse_frames={1: slower})
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 2)
        await eventually(lambda: client.state.refusals == [ErrorCode.RATE_LIMITED])
        refused_at_secs = time.monotonic()
        await send(client, 1)
        assert time.monotonic() - refused_at_secs > 0.2
        await eventually(lambda: client.state.account.is_complete)
    account = client.state.account
    assert (account.sent, account.refused, account.accepted) == (3, 1, 2)


async def test_a_refused_heartbeat_is_not_taken_for_a_frame() -> None:
    full = Error(code="overloaded", message="storage does not answer")
    gateway = ScriptedGateway(refuse_heartbeats=[full, full])
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 3)
        await eventually(lambda: client.state.account.is_complete)
    assert client.state.refusals == ["overloaded"] * 2
    assert (client.state.account.refused, client.state.account.accepted) == (0, 3)


async def test_a_state_value_that_is_no_number_is_missing() -> None:
    gateway = ScriptedGateway()
    async with gateway.running(), client_of(gateway) as client:
        await client.send_frame(IMAGE, np.array([np.nan, np.inf], np.float32), keyframe_png=None)
        await eventually(lambda: gateway.frames["session-0"])
    assert gateway.frames["session-0"][0].state_vector == [-999.0, -999.0]


def test_a_refused_frame_that_was_stored_after_all_is_accepted() -> None:
    """The broker did not say in time; on a resume the server knows."""
    account = SessionAccount(session_id="s")
    account.book_sent()
    account.book_refused()
    assert account.accepted == 0
    account.book_lost(after_frame_id=0)
    assert (account.refused, account.lost, account.accepted) == (0, 0, 1)


@pytest.mark.parametrize(("heartbeats", "refused"), [(0, 2), (1, 2), (2, 1), (3, 0)])
def test_what_heartbeats_were_refused_for_is_forgiven_where_the_connection_breaks(
    heartbeats: int, refused: int
) -> None:
    account = SessionAccount(session_id="s")
    for _ in range(30):
        account.book_sent()
    for second in range(heartbeats):
        account.book_heartbeat_sent(float(second), now_secs=float(second))
    for _ in range(3):
        account.book_refused()
    account.book_lost(after_frame_id=29)  # the newest one was stored, whatever was said
    assert (account.refused, account.lost, account.accepted) == (refused, 0, 30 - refused)


async def test_a_refused_frame_is_not_lost_as_well() -> None:
    full = Error(code="overloaded", message="storage does not answer")
    gateway = ScriptedGateway(refuse_frames={2: full}, drop_at_frames={3})
    async with gateway.running(), client_of(gateway) as client:
        await send(client, 3)
        await eventually(lambda: client.state.account.refused == 1)
        await send(client, 1)
        await eventually(lambda: len(gateway.starts) == 2)
        assert await send(client, 1) == [4]
        await eventually(lambda: client.state.account.is_complete)
    account = client.state.account
    assert (account.refused, account.lost, account.accepted, account.recorded) == (1, 1, 3, 3)


async def test_the_rate_of_the_heartbeat_is_taken_over() -> None:
    gateway = ScriptedGateway(target_fps=10)
    async with gateway.running(), client_of(gateway) as client:
        gateway.target_fps = 5
        await eventually(lambda: client.state.target_fps == 5)
