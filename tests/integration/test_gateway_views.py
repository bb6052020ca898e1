"""`/ws/view/{session_id}`: who may look, what is seen, and that looking costs the game nothing."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from gateway import readiness
from integration.conftest import (
    ClientConnection,
    RunningGateway,
    eventually,
    running_gateway,
    with_changes,
)
from integration.raw_client import HANDSHAKE, raw_client
from integration.talk import chosen, frame, heartbeat, receive, refusal, send, start
from sgaps.keys import watch_key
from sgaps.messages import ViewEncoded
from sgaps.packing import pack_floats, pack_pixels
from sgaps.protocol.views import View, decode_view, unpack_samples
from sgaps.settings import Settings

START_VIEW = {"type": "view_start"}
TOKEN = "a-secret"  # noqa: S105


def look(gateway: RunningGateway, session_id: str, **headers: str) -> connect:
    url = f"ws://127.0.0.1:{gateway.port}/ws/view/{session_id}"
    return connect(url, max_size=None, additional_headers=headers)


def encoded(session_id: str, frame_id: int, **fields: Any) -> ViewEncoded:
    """What a reconstructor publishes."""
    return ViewEncoded(
        **{
            "session_id": session_id,
            "frame_id": frame_id,
            "width": 32,
            "height": 24,
            "model_version": "v1",
            "reconstruction_png": b"a picture",
            "samples_bytes": pack_pixels(np.array([[0.5, 0.25, 1]])),
            "footprint_bytes": b"\4",
            "state_bytes": pack_floats(np.array([1.5, -999])),
            "received_at_secs": time.time(),
            "queue_secs": 0.002,
            "inference_secs": 0.03,
            **fields,
        }
    )


async def next_view(viewer: ClientConnection) -> View:
    while isinstance(raw := await viewer.recv(), str):
        assert json.loads(raw)["type"] == "view_status", raw
    return decode_view(raw)


async def watched(gateway: RunningGateway, session_id: str) -> bool:
    (fields,) = await gateway.bus.hashes([watch_key(session_id)])
    return bool(fields)


async def begin(
    gateway: RunningGateway, viewer: ClientConnection, session_id: str
) -> dict[str, Any]:
    """The first status, when the session is being watched."""
    await send(viewer, START_VIEW)
    status = await receive(viewer)
    await eventually(lambda: watched(gateway, session_id))
    return status


async def test_a_viewer_hears_what_the_gateway_itself_lacks(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "DELIVERY_STALE_SECS", -1.0)
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            status = await begin(gateway, viewer, session_id)
    assert "no turn of its delivery" in status["missing"]["gateway"]


async def test_a_frame_comes_with_all_that_is_known_of_it(gateway: RunningGateway) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        await send(game, frame(0))
        await heartbeat(game)
        async with look(gateway, session_id) as viewer:
            status = await begin(gateway, viewer, session_id)
            answer = chosen(session_id, 0, received_at_secs=time.time() - 0.1)
            await gateway.bus.publish(answer)
            await gateway.bus.publish(
                encoded(
                    session_id,
                    0,
                    predicted_psnr_db=25.5,
                    measured_psnr_db=24.0,
                    sample_error=0.25,
                    keyframe_encoding="jpeg",
                    keyframe=b"the truth",
                )
            )
            view = await next_view(viewer)
    assert status["type"] == "view_status"
    assert (status["connected"], status["last_frame_id"]) == (True, 0)
    assert status["counters"]["frames_received"] == 1
    assert set(status["missing"]) == {"reconstructor", "sampler", "recorder"}
    header = view.header
    assert (view.reconstruction, view.true_frame, view.importance) == (
        b"a picture",
        b"the truth",
        b"\x00\xff",
    )
    assert unpack_samples(view.samples).round(3).tolist() == [[0.5, 0.25, 1, 4]]
    assert (header.session_id, header.frame_id, header.model_version) == (session_id, 0, "v1")
    assert (header.width, header.height, header.true_frame) == (32, 24, "jpeg")
    assert (header.predicted_psnr, header.measured_psnr) == (25.5, 24.0)
    assert header.sample_error == 0.25
    assert header.state == [1.5, None]
    assert header.importance is not None
    assert (header.importance.frame_id, header.importance.width, header.importance.height) == (
        0,
        2,
        1,
    )
    assert (header.stages_ms.queue, header.stages_ms.inference) == (2, 30)
    assert header.stages_ms.answer is not None
    assert 60 < header.stages_ms.answer < 5000
    assert (header.counters.frames_answered, header.counters.frames_dropped) == (1, 0)
    assert header.counters.bytes_up > 0 < header.counters.bytes_down


async def test_a_picture_has_the_size_of_its_frame_though_its_session_has_another_now(
    gateway: RunningGateway,
) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            await gateway.bus.publish(encoded(session_id, 0, width=64, height=48))
            view = await next_view(viewer)
    assert (view.header.width, view.header.height) == (64, 48)


async def test_a_picture_whose_answer_does_not_come_goes_without(gateway: RunningGateway) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            await gateway.bus.publish(encoded(session_id, 0))
            view = await next_view(viewer)
    assert (view.header.importance, view.importance) == (None, b"")
    assert view.header.stages_ms.answer is None
    assert (view.header.true_frame, view.true_frame) == (None, b"")


async def test_a_picture_that_was_overtaken_comes_with_its_own_answer(
    gateway: RunningGateway,
) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            for frame_id, ago_secs in ((0, 5), (1, 3), (3, 1)):
                received_at_secs = time.time() - ago_secs
                answer = chosen(session_id, frame_id, received_at_secs=received_at_secs)
                await gateway.bus.publish(answer)
                while (await receive(game))["frame_id"] != frame_id:
                    pass
            headers = []
            for frame_id in (1, 2, 3):
                await gateway.bus.publish(encoded(session_id, frame_id))
                headers.append((await next_view(viewer)).header)
    assert [header.importance and header.importance.frame_id for header in headers] == [1, 1, 3]
    own, none, newest = (header.stages_ms.answer for header in headers)
    assert none is None
    assert own is not None
    assert newest is not None
    assert 2500 < own < 4500 > newest


async def test_viewers_share_one_reader_and_the_last_one_ends_the_watch(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, server={"watch_secs": 1.5})
    async with running_gateway(settings) as gateway, gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        assert not await watched(gateway, session_id)
        async with look(gateway, session_id) as first, look(gateway, session_id) as second:
            await begin(gateway, first, session_id)
            await begin(gateway, second, session_id)
            await gateway.bus.publish(encoded(session_id, 5))
            views = [await next_view(viewer) for viewer in (first, second)]
            await asyncio.sleep(2)
            assert await watched(gateway, session_id)
        assert [view.header.frame_id for view in views] == [5, 5]

        async def forgotten() -> bool:
            return not await watched(gateway, session_id)

        await eventually(forgotten)
        async with look(gateway, session_id) as again:
            await begin(gateway, again, session_id)
            await gateway.bus.publish(encoded(session_id, 6))
            assert (await next_view(again)).header.frame_id == 6


async def test_a_viewer_that_does_not_read_slows_nobody(gateway: RunningGateway) -> None:
    """It gets what is newest when it reads again; the others miss nothing meanwhile."""
    picture = bytes(200_000)
    async with gateway.connect() as game, raw_client(gateway) as sleeper:
        session_id = (await start(game))["session_id"]
        handshake = HANDSHAKE.replace("/ws/stream", f"/ws/view/{session_id}")
        await sleeper.send(handshake.encode())
        await sleeper.receive_until(b"\r\n\r\n")
        await sleeper.send_frame(Opcode.TEXT, json.dumps(START_VIEW).encode())
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            slowest_secs = 0.0
            for frame_id in range(60):
                await send(game, frame(frame_id))
                await gateway.bus.publish(chosen(session_id, frame_id))
                await gateway.bus.publish(encoded(session_id, frame_id, reconstruction_png=picture))
                asked_at_secs = time.monotonic()
                assert (await next_view(viewer)).header.frame_id == frame_id
                await heartbeat_behind_coordinates(game)
                slowest_secs = max(slowest_secs, time.monotonic() - asked_at_secs)
        received = await sleeper.receive()
    assert slowest_secs < 1
    assert 0 < len(received) < 60 * len(picture)


async def heartbeat_behind_coordinates(game: ClientConnection) -> None:
    await send(game, {"type": "heartbeat", "timestamp": 5.0})
    while (await receive(game))["type"] != "heartbeat_ack":
        pass


async def test_only_who_shows_the_token_may_look(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"auth_token": TOKEN})
    async with running_gateway(settings) as gateway, gateway.connect() as game:
        session_id = (await start(game, auth_token=TOKEN))["session_id"]
        for wrong in (START_VIEW, {**START_VIEW, "auth_token": "\u00e4"}):
            async with look(gateway, session_id) as viewer:
                assert (await refusal(viewer, wrong))["code"] == "unauthorized"
                with pytest.raises(ConnectionClosed):
                    await viewer.recv()
                assert viewer.close_code == 1008
        assert not await watched(gateway, session_id)
        async with look(gateway, session_id) as viewer:
            await send(viewer, {**START_VIEW, "auth_token": TOKEN})
            assert (await receive(viewer))["type"] == "view_status"
        async with look(gateway, session_id, Authorization=f"Bearer {TOKEN}") as viewer:
            await send(viewer, START_VIEW)
            assert (await receive(viewer))["type"] == "view_status"


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("{", "bad_json"),
        ('{"type": "session_start"}', "bad_message"),
        ({**START_VIEW, "more": 1}, "bad_message"),
        ("{}", "bad_message"),
        (b'{"type": "view_start"}', "bad_message"),
        ('{"type": "view_start", "auth_token": NaN}', "bad_json"),
        ("x" * 5000, "message_too_large"),
    ],
)
async def test_who_does_not_begin_with_view_start_is_sent_away(
    gateway: RunningGateway, first: object, code: str
) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await send(viewer, first)
            error = await receive(viewer)
            assert (error["code"], error["fatal"]) == (code, True)


async def test_a_silent_viewer_is_sent_away(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"session_start_timeout_secs": 1})
    async with running_gateway(settings) as gateway, gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            error = await receive(viewer)
            assert (error["code"], error["fatal"]) == ("start_timeout", True)


async def test_a_viewer_has_nothing_more_to_say(gateway: RunningGateway) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            assert (await refusal(viewer, START_VIEW))["code"] == "bad_message"


async def test_a_page_from_somewhere_else_sees_nothing(gateway: RunningGateway) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id, Origin="https://evil.example") as viewer:
            assert (await receive(viewer))["code"] == "origin_refused"
        async with look(gateway, session_id, Origin="http://localhost:3000") as viewer:
            assert (await begin(gateway, viewer, session_id))["connected"] is True


async def test_there_is_an_end_to_viewers(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"max_viewers": 1})
    async with running_gateway(settings) as gateway, gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as first, look(gateway, session_id) as second:
            await begin(gateway, first, session_id)
            error = await refusal(second, START_VIEW)
    assert (error["code"], error["retry_after_secs"]) == ("too_many_sessions", 1)


async def test_one_address_has_a_quarter_of_the_places(gateway_settings: Settings) -> None:
    server = {"max_viewers": 5, "trusted_proxies": ["127.0.0.1"]}
    settings = with_changes(gateway_settings, server=server)
    async with running_gateway(settings) as gateway, gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        own, other = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
        async with (
            look(gateway, session_id, **own) as first,
            look(gateway, session_id, **own) as second,
            look(gateway, session_id, **own) as third,
            look(gateway, session_id, **other) as neighbour,
        ):
            for viewer in (first, second, neighbour):
                assert (await begin(gateway, viewer, session_id))["type"] == "view_status"
            error = await refusal(third, START_VIEW)
            await first.close()
        assert (error["code"], error["retry_after_secs"]) == ("too_many_sessions", 1)
        assert error["message"] == "too many viewers from your address look at sessions"

        async def let_in() -> bool:
            async with look(gateway, session_id, **own) as viewer:
                await send(viewer, START_VIEW)
                return bool((await receive(viewer))["type"] == "view_status")

        await eventually(let_in)


async def test_a_session_that_is_gone_says_so(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"resume_window_secs": 0.5})
    async with running_gateway(settings) as gateway:
        async with look(gateway, "nobody") as viewer:
            assert (await refusal(viewer, START_VIEW))["code"] == "session_not_found"
        async with gateway.connect() as game:
            session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            assert (await begin(gateway, viewer, session_id))["connected"] is False
            await asyncio.sleep(0.6)
            async with gateway.connect() as other:
                await start(other)  # which forgets those that nobody resumed
                while (message := await receive(viewer))["type"] == "view_status":
                    pass
        assert message["code"] == "session_not_found"


async def test_a_session_never_goes_backwards(gateway: RunningGateway) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            await gateway.bus.publish(encoded(session_id, 4))
            seen = [(await next_view(viewer)).header.frame_id]
            await gateway.bus.publish(encoded(session_id, 3))
            await asyncio.sleep(1)  # in which it would have been shown
            await gateway.bus.publish(encoded(session_id, 5))
            seen.append((await next_view(viewer)).header.frame_id)
    assert seen == [4, 5]


async def test_what_cannot_be_read_is_passed_over(gateway: RunningGateway) -> None:
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            await gateway.bus.publish(encoded(session_id, 1, samples_bytes=b"123"))
            await asyncio.sleep(1.5)
            await gateway.bus.publish(encoded(session_id, 2))
            assert (await next_view(viewer)).header.frame_id == 2
