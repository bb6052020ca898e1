"""The gateway over real sockets and a real broker: what it takes, refuses, delivers."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import resource
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from integration.conftest import RunningGateway, running_gateway, with_changes
from integration.talk import START, chosen, frame, heartbeat, png, receive, refusal, send, start
from sgaps.bus import Operation, Put, RedisBus
from sgaps.errors import BusFull
from sgaps.keys import PastSamples, history_key
from sgaps.messages import FrameAccepted, ViewEncoded
from sgaps.packing import pack_floats
from sgaps.service import heartbeat_key
from sgaps.settings import Settings
from waiting import eventually


async def get(gateway: RunningGateway, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(f"{gateway.http_url}{path}")


async def stored(gateway: RunningGateway) -> list[FrameAccepted]:
    entries = await gateway.bus.tail(FrameAccepted.STREAM, "0-0", count=100, block_secs=0)
    return [FrameAccepted.decode(entry.data) for entry in entries]


async def test_a_session_starts_with_the_servers_parameters(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        await send(socket, START)
        ack, first = await receive(socket), await receive(socket)
    assert ack["sample_count"] == 500
    assert ack["max_state_dim"] == 64
    assert ack["target_fps"] == 10
    assert (ack["checkpoint_loaded"], ack["model_version"]) == (False, "none")
    assert ack["resumed"] is False
    assert len(first["coords"]) == 500
    assert first["frame_id"] == -1
    assert first["coordinate_set_id"] == ack["coordinate_set_id"]


@pytest.mark.parametrize("told", [0, 4096])
async def test_the_servers_own_state_size_counts_whatever_a_client_tells(
    gateway: RunningGateway, told: int
) -> None:
    async with gateway.connect() as socket:
        await send(socket, {**START, "max_state_dim": told})
        ack, _ = await receive(socket), await receive(socket)
        await send(socket, frame(0, state_vector=[0.5] * 64))
        await send(socket, frame(1, state_vector=[0.5] * 65))
        refused = await receive(socket)
    assert ack["max_state_dim"] == 64
    assert refused["code"] == "state_too_long"
    (kept,) = await stored(gateway)
    assert len(kept.state_bytes) == 4 * 64


async def test_a_session_may_wish_for_fewer_samples_or_even_ones(gateway: RunningGateway) -> None:
    wish = {"sample_count": 40, "placement": "even"}
    async with gateway.connect() as socket:
        await send(socket, {**START, "sampling": wish})
        ack, first = await receive(socket), await receive(socket)
        many = [[0.5, 0.5, 0.25]] * 41
        assert (await refusal(socket, frame(0, pixels=many)))["code"] == "too_many_samples"
        await send(socket, frame(0, pixels=many[:40]))
        await heartbeat(socket)
    (taken,) = await stored(gateway)
    assert (ack["sample_count"], len(first["coords"])) == (40, 40)
    assert (taken.wanted_samples, taken.is_placed_evenly) == (40, True)


async def test_a_wish_changes_with_a_resume(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        ack = await start(socket)
    async with gateway.connect() as socket:
        again = {**START, "resume_session_id": ack["session_id"], "sampling": {"sample_count": 7}}
        await send(socket, again)
        resumed, first = await receive(socket), await receive(socket)
    assert (resumed["session_id"], resumed["sample_count"]) == (ack["session_id"], 7)
    assert len(first["coords"]) == 7


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"sample_count": 0}, "sampling.sample_count"),
        ({"sample_count": 65536}, "sampling.sample_count"),
        ({"sample_count": "many"}, "sampling.sample_count"),
        ({"placement": "nowhere"}, "sampling.placement"),
        ({"pattern": "random"}, "sampling.pattern"),
    ],
)
async def test_an_odd_wish_is_refused(
    gateway: RunningGateway, wish: dict[str, object], reason: str
) -> None:
    async with gateway.connect() as socket:
        error = await refusal(socket, {**START, "sampling": wish})
    assert (error["code"], error["fatal"]) == ("bad_message", True)
    assert reason in error["message"]


@pytest.mark.parametrize(
    ("resolution", "count"), [([640, 480], 1000), ([16, 16], 256), ([1, 1], 1)]
)
async def test_nobody_gets_more_samples_than_the_gateway_allows_or_there_are_pixels(
    gateway: RunningGateway, resolution: list[int], count: int
) -> None:
    async with gateway.connect() as socket:
        wish = {"sample_count": 65535}
        await send(socket, {**START, "sampling": wish, "resolution": resolution})
        ack, first = await receive(socket), await receive(socket)
    assert ack["sample_count"] == len(first["coords"]) == count


async def test_the_ack_tells_what_really_serves(gateway: RunningGateway) -> None:
    status = json.dumps({"serving": {"default": "untrained", "doom": "v0007-abc"}})
    beat = {"at_secs": b"1", "started_at_secs": b"1", "status": status.encode()}
    await gateway.bus.write(Put(heartbeat_key("reconstructor", "x"), beat, 60))

    async def heard_of() -> bool:
        return bool((await get(gateway, "/api/status")).json()["model_versions"])

    await eventually(heard_of)
    async with gateway.connect() as known, gateway.connect() as unknown:
        own, other = await start(known), await start(unknown, checkpoint_key="pong")
    assert (own["checkpoint_loaded"], own["model_version"]) == (True, "v0007-abc")
    assert (other["checkpoint_loaded"], other["model_version"]) == (False, "untrained")


async def test_a_frame_is_stored_with_its_history_in_one_write(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        ack = await start(socket)
        await send(socket, frame(0))
        await send(socket, frame(1, pixels=[{"u": 1, "v": 0, "value": 1}]))
        await heartbeat(socket)
    first, second = await stored(gateway)
    assert (first.session_id, first.frame_id, first.checkpoint_key) == (
        ack["session_id"],
        0,
        "doom",
    )
    np.testing.assert_allclose(first.samples, [[0.5, 0.5, 0.25, 1]], atol=0.5 / 255)
    np.testing.assert_allclose(first.state, [1.0, -999.0])
    np.testing.assert_array_equal(second.samples, [[1, 0, 1, 1]])
    key = history_key(ack["session_id"])
    (history,) = await gateway.bus.lists([key], count=9)
    assert [PastSamples.decode(data).frame_id for data in history] == [1, 0]
    assert (await gateway.bus.ledger())["received"] == 2


async def test_a_keyframe_travels_with_its_frame(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        await start(socket)
        await send(
            socket, {"type": "keyframe", "frame_id": 0, "encoding": "png", "data": png(32, 24)}
        )
        await send(socket, frame(0))
        await send(socket, frame(1))
        await heartbeat(socket)
    first, second = await stored(gateway)
    assert first.keyframe_encoding == "png"
    assert Image.open(io.BytesIO(first.keyframe)).size == (32, 24)
    assert second.keyframe == b""


async def test_coordinates_reach_their_session_and_never_go_back(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        session_id = (await start(socket))["session_id"]
        for frame_id in (4, 3, 5):
            await gateway.bus.publish(chosen(session_id, frame_id))
        answers = [await receive(socket), await receive(socket)]
        await gateway.bus.publish(chosen("somebody-else", 1))

        async def booked() -> bool:
            ledger = await gateway.bus.ledger()
            return ledger == {"delivered": 2, "out_of_order": 1, "session_gone": 1}

        await eventually(booked)
    assert [answer["frame_id"] for answer in answers] == [4, 5]
    assert answers[0]["coords"] == [[0.25, 0.75]]
    assert answers[0]["model_version"] == "v1"
    assert answers[0]["importance_map"] is None


async def test_squares_are_agreed_on_first(gateway: RunningGateway) -> None:
    client = {"name": "t", "version": "1", "features": ["footprint", "something_new"]}
    async with gateway.connect() as socket:
        ack = await start(socket, client=client)
        await send(socket, frame(0, pixels=[[0.5, 0.5, 0.25, 8], [0, 0, 1, 1]]))
        await gateway.bus.publish(chosen(ack["session_id"], 0, footprint_bytes=b"\x10"))
        answer = await receive(socket)
    async with gateway.connect() as socket:
        plain = await start(socket)
        await send(socket, frame(0, pixels=[[0.5, 0.5, 0.25, 8]]))
        refused = await receive(socket)
        await send(socket, frame(0, pixels=[[0.5, 0.5, 0.25, 1]]))
        await heartbeat(socket)
    first, second = await stored(gateway)
    assert (ack["features"], plain["features"]) == (["footprint"], [])
    np.testing.assert_allclose(
        first.samples, np.array([[0.5, 0.5, 0.25, 8], [0, 0, 1, 1]]), atol=0.5 / 255
    )
    assert (first.footprints, second.footprints) == (True, False)
    assert answer["coords"] == [[0.25, 0.75, 16]]
    assert (refused["code"], refused["fatal"]) == ("bad_message", False)


async def test_the_importance_map_comes_if_asked_for(gateway: RunningGateway) -> None:
    client = {"name": "t", "version": "1", "features": ["importance_map"]}
    async with gateway.connect() as socket, httpx.AsyncClient() as http:
        session_id = (await start(socket, client=client))["session_id"]
        url = f"{gateway.http_url}/api/sessions/{session_id}/importance.png"
        assert (await http.get(url)).status_code == 404
        await gateway.bus.publish(chosen(session_id, 4))
        answer = await receive(socket)
        picture = await http.get(url)
    assert answer["importance_map"] == {"width": 2, "height": 1, "data": "AP8="}
    assert picture.headers["X-Frame-Id"] == "4"
    assert Image.open(io.BytesIO(picture.content)).getpixel((15, 0)) == 255


async def test_nobody_waits_while_an_importance_map_becomes_a_picture(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    save = Image.Image.save

    def save_and_tell(*arguments: Any, **named: Any) -> None:
        threads.append(threading.get_ident())
        save(*arguments, **named)

    monkeypatch.setattr(Image.Image, "save", save_and_tell)
    async with gateway.connect() as socket:
        session_id = (await start(socket))["session_id"]
        await gateway.bus.publish(chosen(session_id, 0))
        await receive(socket)
        picture = await get(gateway, f"/api/sessions/{session_id}/importance.png")
    assert picture.status_code == 200
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("message", "code", "close_code"),
    [
        ("{", "bad_json", 1008),
        ('{"type":"x"}', "unknown_type", 1008),
        (frame(0), "no_session", 1008),
        ({"type": "heartbeat", "timestamp": 1}, "no_session", 1008),
        ({**START, "checkpoint_key": "../../x"}, "bad_message", 1008),
        ({**START, "extra": 1}, "bad_message", 1008),
        ({**START, "resume_session_id": "nobody"}, "session_not_found", 1008),
        (b"\x00\x01", "bad_message", 1008),
        ("[" * 4000, "bad_message", 1008),
        ('{"type":' + "[" * 4000, "bad_json", 1008),
        ('{"type":"\\ud800"}', "bad_json", 1008),
        ("x" * 4097, "message_too_large", 1009),
        ("x" * 10_000_000, "message_too_large", 1009),
    ],
)
async def test_before_a_session_every_mistake_is_typed_and_ends_the_connection(
    gateway: RunningGateway, message: object, code: str, close_code: int
) -> None:
    async with gateway.connect() as good, gateway.connect() as bad:
        await start(good)
        error = await refusal(bad, message)
        await bad.wait_closed()
        assert (error["code"], error["fatal"]) == (code, True)
        assert bad.close_code == close_code
        await send(good, frame(0))
        assert (await heartbeat(good))["type"] == "heartbeat_ack"
    assert [f.frame_id for f in await stored(gateway)] == [0]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "bad_json"),
        (json.dumps(frame(9)).replace("0.25", "NaN"), "bad_json"),
        (json.dumps(frame(9)).replace("0.25", "1e400"), "bad_message"),
        (frame(5), "frame_id_backwards"),
        (frame(4), "frame_id_backwards"),
        (frame(9, pixels=[]), "bad_message"),
        (frame(9, pixels=[[0, 0, 0]] * 501), "too_many_samples"),
        (frame(9, state_vector=[0.0] * 65), "state_too_long"),
        (frame(9, resolution=[64, 24]), "resolution_mismatch"),
        (START, "session_exists"),
        ({"type": "keyframe", "frame_id": 9, "encoding": "png", "data": "?"}, "bad_keyframe"),
        ({"type": "keyframe", "frame_id": 9, "encoding": "png", "data": "AAAA"}, "bad_keyframe"),
        (
            {"type": "keyframe", "frame_id": 9, "encoding": "png", "data": png(33, 24)},
            "bad_keyframe",
        ),
        (
            {"type": "keyframe", "frame_id": 9, "encoding": "jpeg", "data": png(32, 24)},
            "bad_keyframe",
        ),
    ],
)
async def test_in_a_session_a_mistake_costs_the_message_alone(
    gateway: RunningGateway, message: object, code: str
) -> None:
    async with gateway.connect() as socket:
        await start(socket)
        await send(socket, frame(5))
        error = await refusal(socket, message)
        await send(socket, frame(6))
        assert (await heartbeat(socket))["type"] == "heartbeat_ack"
    assert (error["code"], error["fatal"]) == (code, False)
    assert [f.frame_id for f in await stored(gateway)] == [5, 6]


async def test_a_session_is_resumed_and_taken_over(gateway: RunningGateway) -> None:
    async with gateway.connect() as old:
        session_id = (await start(old))["session_id"]
        await send(old, frame(7))
        await heartbeat(old)
        async with gateway.connect() as new:
            ack = await start(new, resume_session_id=session_id)
            assert (await receive(old))["code"] == "session_taken_over"
            await old.wait_closed()
            assert (ack["resumed"], ack["last_frame_id"]) == (True, 7)
            assert (await refusal(new, frame(7)))["code"] == "frame_id_backwards"
            await send(new, frame(8))
            await heartbeat(new)
    assert [f.frame_id for f in await stored(gateway)] == [7, 8]


async def test_a_session_may_come_back_with_another_resolution(gateway: RunningGateway) -> None:
    async with gateway.connect() as old:
        session_id = (await start(old))["session_id"]
        await send(old, frame(0))
        await heartbeat(old)
    async with gateway.connect() as new:
        await start(new, resume_session_id=session_id, resolution=[64, 48])
        await gateway.bus.publish(chosen(session_id, 0))  # its squares lie in a smaller picture
        assert (await refusal(new, frame(1)))["code"] == "resolution_mismatch"
        await send(new, frame(2, resolution=[64, 48]))
        await gateway.bus.publish(chosen(session_id, 2))
        assert (await receive(new))["frame_id"] == 2
    assert (await gateway.bus.ledger())["out_of_order"] == 1
    assert [(f.frame_id, f.width, f.height) for f in await stored(gateway)] == [
        (0, 32, 24),
        (2, 64, 48),
    ]


async def test_answers_to_frames_before_a_resume_with_another_wish_are_not_for_it(
    gateway: RunningGateway,
) -> None:
    """A set that its frames would be refused at would be the last one that it ever gets."""
    squares = {"client": {"name": "t", "version": "1", "features": ["footprint"]}}
    many = pack_floats(np.full((8, 2), 0.5))
    async with gateway.connect() as old:
        session_id = (await start(old, **squares))["session_id"]
        await send(old, frame(7, pixels=[[0.5, 0.5, 0.25, 8]]))
        await heartbeat(old)
    async with gateway.connect() as new:
        await start(new, resume_session_id=session_id, sampling={"sample_count": 4})
        await gateway.bus.publish(chosen(session_id, 7, coords_bytes=many))
        await gateway.bus.publish(chosen(session_id, 7, footprint_bytes=b"\x10"))
        await send(new, frame(8))
        await gateway.bus.publish(chosen(session_id, 8))
        answer = await receive(new)
    assert (answer["frame_id"], answer["coords"]) == (8, [[0.25, 0.75]])
    assert (await gateway.bus.ledger())["out_of_order"] == 2


class SlowToTell(RedisBus):
    """A broker that lets a resuming client wait."""

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        await asyncio.sleep(0.3)
        return await super().hashes(keys)


async def test_a_session_resumed_twice_at_once_has_one_owner(gateway_settings: Settings) -> None:
    async with running_gateway(gateway_settings) as gateway, gateway.connect() as socket:
        session_id = (await start(socket))["session_id"]
    again = {**START, "resume_session_id": session_id}
    async with (
        running_gateway(gateway_settings, SlowToTell) as gateway,
        gateway.connect() as one,
        gateway.connect() as other,
    ):
        await send(one, again)
        await asyncio.sleep(0.1)  # it is still waiting when the other one asks
        await send(other, again)
        heard = [[await receive(socket), await receive(socket)] for socket in (one, other)]
        assert [ack["resumed"] for ack, _ in heard] == [True, True]
        assert (await receive(one))["code"] == "session_taken_over"
        await send(other, frame(0))
        await gateway.bus.publish(chosen(session_id, 0))
        assert (await receive(other))["frame_id"] == 0


async def test_a_picture_that_no_reconstructor_could_hold_is_refused(
    gateway: RunningGateway,
) -> None:
    async with gateway.connect() as socket:
        error = await refusal(socket, {**START, "resolution": [8192, 8192]})
    assert (error["code"], error["fatal"]) == ("bad_message", True)
    assert "server.max_pixels" in error["message"]
    async with gateway.connect() as socket:
        assert (await start(socket, resolution=[2560, 1600]))["type"] == "session_start_ack"


async def test_a_session_survives_its_gateway(gateway_settings: Settings) -> None:
    async with running_gateway(gateway_settings) as gateway, gateway.connect() as socket:
        session_id = (await start(socket))["session_id"]
        await send(socket, frame(7))
        await heartbeat(socket)
    async with running_gateway(gateway_settings) as gateway, gateway.connect() as socket:
        ack = await start(socket, resume_session_id=session_id)
        other = {**START, "checkpoint_key": "pong", "resume_session_id": session_id}
        async with gateway.connect() as stranger:
            assert (await refusal(stranger, other))["code"] == "session_mismatch"
    assert (ack["resumed"], ack["last_frame_id"]) == (True, 7)


async def test_a_disconnected_session_is_cleaned_up(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket, httpx.AsyncClient() as http:
        session_id = (await start(socket))["session_id"]
        await send(socket, frame(0))
        await heartbeat(socket)
        during = (await http.get(f"{gateway.http_url}/api/sessions/{session_id}")).json()
        await socket.close()

        async def gone() -> bool:
            status = (await http.get(f"{gateway.http_url}/api/status")).json()
            return bool(status["active_sessions"] == 0)

        await eventually(gone)
        after = (await http.get(f"{gateway.http_url}/api/sessions/{session_id}")).json()
    assert (during["connected"], during["frames_received"]) == (True, 1)
    assert after["connected"] is False
    assert 0 < after["duration_secs"] < 10


async def test_a_session_that_nobody_resumes_is_forgotten_though_nobody_else_comes(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, server={"resume_window_secs": 0.2})
    async with running_gateway(settings) as gateway:
        async with gateway.connect() as socket:
            path = f"/api/sessions/{(await start(socket))['session_id']}"
            assert (await get(gateway, path)).status_code == 200

        async def forgotten() -> bool:
            return (await get(gateway, path)).status_code == 404

        await eventually(forgotten)


async def test_a_view_is_made_only_while_somebody_looks(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket, httpx.AsyncClient() as http:
        session_id = (await start(socket))["session_id"]
        url = f"{gateway.http_url}/api/sessions/{session_id}/reconstruction.png"
        assert (await http.get(url, timeout=5)).status_code == 503
        assert await gateway.bus.keys("sgaps:watch:") == [f"sgaps:watch:{session_id}"]
        await gateway.bus.publish(
            ViewEncoded(
                session_id=session_id,
                frame_id=3,
                width=32,
                height=24,
                model_version="v1",
                reconstruction_png=b"a picture",
            )
        )
        picture = await http.get(url)
    assert picture.content == b"a picture"
    assert (picture.headers["X-Frame-Id"], picture.headers["X-Model-Version"]) == ("3", "v1")


async def test_why_there_is_no_reconstruction_is_told(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def why_not() -> tuple[int, str]:
        reply = await http.get(f"/api/sessions/{session_id}/reconstruction.png")
        return reply.status_code, reply.json()["detail"]

    async def full(*_: Operation) -> None:
        raise BusFull("no room")

    monkeypatch.setattr("gateway.api.VIEW_WAIT_SECS", 0.1)
    async with gateway.connect() as socket, httpx.AsyncClient(base_url=gateway.http_url) as http:
        session_id = (await start(socket))["session_id"]

        async def told() -> bool:
            return "reconstructor: no heartbeat" in (await why_not())[1]

        await eventually(told)  # before, the broker had not been looked at
        assert (await why_not())[0] == 503
        monkeypatch.setattr("gateway.api.what_is_missing", lambda _: {})
        missing = "no frame of this session was rebuilt in 0.1 s; does its game send any?"
        assert await why_not() == (404, f"no reconstruction yet: {missing}")
        monkeypatch.setattr(gateway.bus, "write", full)

        async def told_full() -> bool:
            return await why_not() == (503, "the broker is full: no room")

        await eventually(told_full)  # before, the reader of the looks before it was still there


async def test_the_http_side_tells_how_things_are(gateway: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url) as http:
        assert (await http.get("/api/health")).json() == {"status": "ok"}
        assert (await http.get("/api/ready")).status_code == 503
        assert (await http.get("/api/checkpoints")).json() == []
        assert (await http.get("/api/sessions/nobody")).status_code == 404
        assert "sgaps_frames_received_total" in (await http.get("/metrics")).text
        assert "SGAPS-MAE" in (await http.get("/")).text
        paths = (await http.get("/openapi.json")).json()["paths"]
    assert "/api/sessions/{session_id}/reconstruction.png" in paths


async def test_a_folder_of_checkpoints_that_cannot_be_listed_is_told(
    gateway: RunningGateway,
) -> None:
    gateway.settings.data.checkpoints_dir.write_text("a file")
    reply = await get(gateway, "/api/checkpoints")
    assert (reply.status_code, "cannot be listed" in reply.text) == (503, True)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/live.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/mark.svg", "image/svg+xml"),
    ],
)
async def test_pages_come_under_a_strict_policy(
    gateway: RunningGateway, path: str, media_type: str
) -> None:
    reply = await get(gateway, path)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].split(";")[0] == media_type
    policy = reply.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in " ".join(policy)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "http" not in reply.text.replace("http://www.w3.org/2000/svg", "").replace(
        '.replace("http", "ws")', ""
    )


async def test_beside_the_pages_nothing_is_served(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/../api.py", "/%2e%2e/api.py", "/..%2fapi.py", "/api/nothing", "/nothing.js"):
        assert (await get(gateway, path)).status_code == 404
    for path in ("/nothing", "/ws/strem", "/", "/ws/view"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{gateway.port}{path}")
        assert refused.value.response.status_code == 404
        assert b"/ws/stream" in (refused.value.response.body or b"")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_head_answers_as_get_without_the_body(gateway: RunningGateway) -> None:
    paths = ("/api/health", "/api/ready", "/api/status", "/api/nothing", "/metrics", "/", "/no.js")
    async with httpx.AsyncClient(base_url=gateway.http_url) as http:
        for path in paths:
            head, get = await http.head(path), await http.get(path)
            assert (head.status_code, head.content) == (get.status_code, b""), path
            assert head.headers["Content-Type"] == get.headers["Content-Type"]
        schema = (await http.get("/openapi.json")).json()
    assert {method for operations in schema["paths"].values() for method in operations} == {"get"}


async def test_without_a_broker_a_frame_is_refused_not_lost_silently(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, bus={"url": "redis://127.0.0.1:1/0"})
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        error = await refusal(socket, START)
        async with httpx.AsyncClient() as http:
            status = await http.get(f"{gateway.http_url}/api/status")
    assert error["code"] == "overloaded"
    assert error["retry_after_secs"] > 0
    assert status.status_code == 503


async def test_a_gateway_that_stops_says_so_and_the_session_can_be_resumed(
    gateway_settings: Settings,
) -> None:
    async with running_gateway(gateway_settings) as gateway:
        socket = await gateway.connect()
        ack = await start(socket)
        await send(socket, frame(0))
        await heartbeat(socket)
    goodbye = await receive(socket)
    assert (goodbye["code"], goodbye["fatal"]) == ("shutting_down", True)
    assert goodbye["retry_after_secs"] > 0
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    assert socket.close_code == 1001
    async with running_gateway(gateway_settings) as gateway, gateway.connect() as again:
        resumed = await start(again, resume_session_id=ack["session_id"])
        assert (resumed["resumed"], resumed["last_frame_id"]) == (True, 0)


async def test_a_gateway_may_have_more_connections_than_a_shell_has_files(
    gateway_settings: Settings,
) -> None:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))
    try:
        async with running_gateway(gateway_settings):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
