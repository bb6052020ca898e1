"""A whole play against the scripted gateway: counts, sessions, PSNR, and ending when told to."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus

import numpy as np
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from sgaps.errors import ProtocolError
from sgaps.protocol.messages import Error, FrameData, SessionStart
from sgaps_client import client as client_module
from sgaps_client import player, state
from sgaps_client.pictures import encoded_png
from sgaps_client.player import PlayStats, play
from unit.flat_game import SHADE, Flat, options
from unit.scripted_gateway import ScriptedGateway
from waiting import PATIENCE_SECS


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_SECS", 0.01)
    monkeypatch.setattr(client_module, "HEARTBEAT_SECS", 0.02)
    monkeypatch.setattr(player, "STOP_GRACE_SECS", 0.1)
    monkeypatch.setattr(player, "LAST_ANSWERS_SECS", 2.0)


async def test_a_play_is_summed_up() -> None:
    gateway = ScriptedGateway(keyframe_interval=5)
    async with gateway.running():
        summary = await play(Flat(), options(gateway, frames=30), stop=asyncio.Event())
    assert summary.sent == summary.accepted == summary.answered == summary.recorded == 30
    assert (summary.lost, summary.refusals, summary.reconnections) == (0, [], 0)
    assert summary.sessions == ["session-0"]
    assert gateway.frame_ids("session-0") == list(range(30))
    assert summary.psnr_db == pytest.approx(20 * np.log10(255 / SHADE))
    assert summary.latency_p50_ms is not None
    assert summary.latency_p99_ms is not None
    assert 0 < summary.latency_p50_ms <= summary.latency_p99_ms < 1000
    assert summary.bytes_up > 30 * 100
    assert summary.model_version == "telea"


async def test_a_new_session_begins_after_so_many_frames() -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        chosen = options(gateway, frames=25, session_frames=10)
        summary = await play(Flat(), chosen, stop=asyncio.Event())
    assert summary.sessions == ["session-0", "session-1", "session-2"]
    assert [len(gateway.frames[s]) for s in summary.sessions] == [10, 10, 5]
    assert summary.recorded == 25


class FullForTheSecond(ScriptedGateway):
    """It has no place for the second session when it is asked first."""

    def _refusal_of(self, start: SessionStart) -> Error | None:
        is_second = len(self.starts) == 2
        full = Error(code="too_many_sessions", message="full", fatal=True)
        return full if is_second else super()._refusal_of(start)


async def test_only_the_first_session_is_not_waited_for() -> None:
    """Who had one knows that there is a gateway."""
    gateway = FullForTheSecond()
    async with gateway.running():
        chosen = replace(options(gateway, frames=4, session_frames=2), wait_secs=0)
        summary = await play(Flat(), chosen, stop=asyncio.Event())
    assert (summary.sent, len(summary.sessions), len(gateway.starts)) == (4, 2, 3)


@pytest.mark.parametrize("limit", [None, 20])
async def test_a_source_that_ends_with_a_session_begins_no_other(limit: int | None) -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        chosen = options(gateway, frames=limit, session_frames=10)
        summary = await play(Flat(20), chosen, stop=asyncio.Event())
    assert summary.sessions == list(gateway.frames) == ["session-0", "session-1"]
    assert summary.recorded == 20


async def test_a_finite_source_ends_the_play() -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        summary = await play(Flat(7), options(gateway), stop=asyncio.Event())
    assert (summary.sent, summary.recorded) == (7, 7)


async def test_a_lost_connection_costs_only_what_was_on_the_wire() -> None:
    gateway = ScriptedGateway(drop_at_frames={10})
    async with gateway.running():
        summary = await play(Flat(), options(gateway, frames=40), stop=asyncio.Event())
    received = gateway.frame_ids("session-0")
    assert summary.sent == 40
    assert summary.lost >= 1
    assert summary.accepted == summary.recorded == len(received) == 40 - summary.lost
    assert (summary.sessions, summary.reconnections) == (["session-0"], 1)


async def test_a_new_session_after_a_forgotten_one_is_in_the_summary() -> None:
    gateway = ScriptedGateway(drop_at_frames={10}, forgets_sessions=True)
    async with gateway.running():
        summary = await play(Flat(), options(gateway, frames=30), stop=asyncio.Event())
    assert summary.sessions == ["session-0", "session-1"]
    received = sum(len(gateway.frame_ids(session_id)) for session_id in summary.sessions)
    assert summary.sent == 30
    # What nobody can confirm any more, neither answered nor known to be recorded, counts as lost.
    assert summary.recorded <= summary.accepted <= received
    assert summary.lost >= 30 - received


async def test_a_gateway_that_died_and_counts_anew_takes_nothing_from_the_summary() -> None:
    gateway = ScriptedGateway(keyframe_interval=5)
    async with gateway.running() as server:
        playing = asyncio.create_task(
            play(Flat(), options(gateway, frames=60), stop=asyncio.Event())
        )
        while len(gateway.frames.get("session-0", [])) < 20:
            await asyncio.sleep(0.005)
        for connection in server.connections:
            connection.transport.abort()
    async with gateway.running():
        summary = await playing
    assert summary.sessions == ["session-0"]
    assert summary.reconnections == 1
    assert summary.accepted == summary.recorded == len(gateway.frame_ids("session-0")) > 20
    assert summary.accepted + summary.lost == summary.sent == 60


@pytest.mark.parametrize("frame_id", [4, 9])
async def test_a_frame_without_an_answer_does_not_hold_up_the_end(frame_id: int) -> None:
    """In the middle a frame is superseded by the next, at the end it can only be refused."""
    gateway = ScriptedGateway(superseded_frames={4})
    if frame_id == 9:
        gateway.refuse_frames[9] = Error(code="overloaded", message="storage is full")
    started_at_secs = time.monotonic()
    async with gateway.running():
        summary = await play(Flat(), options(gateway, frames=10), stop=asyncio.Event())
    assert time.monotonic() - started_at_secs < player.LAST_ANSWERS_SECS
    assert summary.accepted == summary.recorded == 10 - len(gateway.refuse_frames)
    assert summary.answered == summary.accepted - 1


async def test_frames_keep_the_rate_the_server_wants() -> None:
    gateway = ScriptedGateway(target_fps=50)
    async with gateway.running():
        await play(Flat(), options(gateway, frames=26), stop=asyncio.Event())
    sent = [m.timestamp for m in gateway.received if isinstance(m, FrameData)]
    assert sent[-1] - sent[0] > 0.45  # 25 intervals of 20 ms
    assert np.median(np.diff(sent)) < 0.03  # a machine may stall, but not at every other frame


async def test_the_live_line_is_told_how_it_goes() -> None:
    gateway = ScriptedGateway()
    told: list[PlayStats] = []
    async with gateway.running():
        await play(Flat(), options(gateway, frames=5), stop=asyncio.Event(), report=told.append)
    assert told[-1].answered == 5
    assert told[-1].bytes_per_frame > 100


async def test_a_play_that_runs_for_long_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "NEWEST_KEPT", 4)
    gateway = ScriptedGateway()
    codes = ["rate_limited"] * 3 + ["overloaded"] * 4
    gateway.refuse_frames = {i: Error(code=code, message="") for i, code in enumerate(codes)}
    told: list[PlayStats] = []
    async with gateway.running():
        chosen = options(gateway, frames=60, session_frames=10)
        summary = await play(Flat(), chosen, stop=asyncio.Event(), report=told.append)
    assert summary.sessions == [f"session-{i}" for i in range(2, 6)]
    assert summary.refusals == ["overloaded"] * 4
    assert len(told[-1].latencies_ms) == 4
    assert (summary.sent, summary.answered) == (60, 6 * 3)


def test_the_mean_psnr_is_of_all_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "NEWEST_KEPT", 2)
    stats = PlayStats()
    for psnr_db in (10.0, 20.0, 60.0):
        stats.note_psnr(psnr_db)
    assert (stats.psnrs_db, stats.psnr_mean_db) == ([20, 60], 30)


async def test_a_play_ends_when_told_to() -> None:
    gateway = ScriptedGateway()
    stop = asyncio.Event()
    async with gateway.running():
        asyncio.get_running_loop().call_later(0.3, stop.set)
        summary = await play(Flat(), options(gateway), stop=stop)
    assert 0 < summary.sent < 200


async def test_a_play_that_waits_for_a_missing_server_ends_when_told_to() -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        pass  # the port is free again: nobody answers
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    started_at_secs = time.monotonic()
    summary = await play(Flat(), options(gateway), stop=stop)
    assert summary.sent == 0
    assert time.monotonic() - started_at_secs < 3


async def test_a_play_whose_server_hangs_ends_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CLOSE_TIMEOUT_SECS", 0.1)
    # However slow the machine, it waits at a full socket: no frame is dropped, no server given up.
    monkeypatch.setattr(client_module, "SILENCE_TIMEOUT_SECS", 600.0)
    monkeypatch.setattr(state, "BACKLOGGED_SECS", 600.0)
    frozen_at = 2
    gateway = ScriptedGateway(freeze_at_frame=frozen_at, coords=((0.5, 0.5),) * 20_000)
    stop = asyncio.Event()
    async with gateway.running():
        source, given = Flat(), -1
        playing = asyncio.create_task(play(source, options(gateway), stop=stop))
        # Until it has begun, and then until no buffer on the way takes more of these frames.
        async with asyncio.timeout(PATIENCE_SECS):
            while source.given <= frozen_at or source.given > given:
                assert not playing.done()
                given = source.given
                await asyncio.sleep(0.5)
        stop.set()
        stopped_at_secs = time.monotonic()
        summary = await playing
        assert time.monotonic() - stopped_at_secs < 1
    assert summary.sent > frozen_at
    assert summary.sessions == ["session-0"]


async def test_a_cancelled_play_leaves_nothing_running() -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        pass  # nobody answers at this port any more
    playing = asyncio.create_task(play(Flat(), options(gateway), stop=asyncio.Event()))
    await asyncio.sleep(0.1)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_hopeless_refusal_ends_the_play() -> None:
    gateway = ScriptedGateway(
        refuse_starts=[Error(code="unauthorized", message="wrong token", fatal=True)]
    )
    async with gateway.running():
        with pytest.raises(ProtocolError, match="wrong token"):
            await play(Flat(), options(gateway, frames=5), stop=asyncio.Event())


@pytest.mark.parametrize("frame_id", ["of a proxy", "0"])
@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", encoded_png(np.zeros((3, 5), np.uint8))],
    ids=["page", "nothing", "of another size"],
)
async def test_what_is_no_reconstruction_costs_its_psnr_alone(
    frame_id: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy may answer anything."""
    answer = Response(HTTPStatus.OK, "OK", Headers({"X-Frame-Id": frame_id}), body)

    def instead(_: ScriptedGateway, __: object, request: Request) -> Response | None:
        return answer if request.path.startswith("/api/") else None

    monkeypatch.setattr(ScriptedGateway, "_http", instead)
    gateway = ScriptedGateway()
    async with gateway.running():
        summary = await play(Flat(), options(gateway, frames=3), stop=asyncio.Event())
    assert (summary.answered, summary.psnr_db) == (3, None)


@pytest.mark.parametrize(("token", "header"), [("secret", "Bearer secret"), (None, None)])
async def test_the_token_goes_with_the_session_and_with_its_pictures(
    token: str | None, header: str | None
) -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        given = replace(options(gateway, frames=2), auth_token=token)
        await play(Flat(), given, stop=asyncio.Event())
    assert [start.auth_token for start in gateway.starts] == [token]
    assert set(gateway.authorizations) == {header}


@pytest.mark.parametrize("names", [("http_proxy", "https_proxy"), ("all_proxy",)])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "socks://x:1"])
async def test_a_proxy_is_not_asked_for_this_machine(
    names: tuple[str, ...], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setenv(name, proxy)
    gateway = ScriptedGateway(keyframe_interval=1)
    async with asyncio.timeout(10), gateway.running():
        summary = await play(Flat(), options(gateway, frames=2), stop=asyncio.Event())
    assert summary.answered == 2
    assert summary.psnr_db is not None  # its pictures come over HTTP
