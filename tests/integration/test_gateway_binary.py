"""The binary form over a real socket: what is stored, what is refused, who gets which form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway_sessions import a_session
from integration.conftest import RunningGateway, running_gateway
from sgaps.bus import Publish
from sgaps.messages import CoordinatesChosen, FrameAccepted
from sgaps.packing import pack_floats, pack_footprints
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, SampledFrame, WholeFrame
from sgaps.protocol.messages import Resolution
from sgaps.sampling.footprints import sample_image
from sgaps.settings import Settings
from sgaps_client.client import SgapsClient
from sgaps_client.pictures import encoded_png
from sgaps_client.state import SessionConfig
from waiting import eventually

WIDTH, HEIGHT = 32, 24
IMAGE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
STATE = np.array([1.5, -999.0], np.float32)


def binary_socket(gateway: RunningGateway) -> connect:
    return connect(gateway.ws_url, subprotocols=[Subprotocol(binary_codec.SUBPROTOCOL)])


async def started(socket: ClientConnection) -> tuple[dict[str, Any], CoordinateSet]:
    """The acknowledgement, and the first set."""
    await socket.send(
        json.dumps(
            {
                "type": "session_start",
                "checkpoint_key": "doom",
                "resolution": [WIDTH, HEIGHT],
                "max_state_dim": 64,
                "client": {"name": "t", "version": "1", "features": ["footprint"]},
            }
        )
    )
    ack = json.loads(await socket.recv())
    first = await socket.recv()
    assert isinstance(first, bytes)
    return ack, binary_codec.decode_server_message(first)


def sampled(frame_id: int, chosen: CoordinateSet, **changes: Any) -> SampledFrame:
    fields: dict[str, Any] = {
        "frame_id": frame_id,
        "coordinate_set_id": chosen.coordinate_set_id,
        "samples": sample_image(IMAGE, chosen.coords),
        "state": STATE,
        "resolution": Resolution(width=WIDTH, height=HEIGHT),
        "timestamp": 1.0,
    }
    return SampledFrame(**(fields | changes))


async def stored(gateway: RunningGateway, count: int) -> list[FrameAccepted]:
    frames: list[FrameAccepted] = []

    async def all_there() -> bool:
        entries = await gateway.bus.tail(FrameAccepted.STREAM, "0-0", count=100, block_secs=0)
        frames[:] = [FrameAccepted.decode(entry.data) for entry in entries]
        return len(frames) >= count

    await eventually(all_there)
    return frames


async def refusal(socket: ClientConnection, message: bytes) -> dict[str, Any]:
    await socket.send(message)
    error: dict[str, Any] = json.loads(await socket.recv())
    assert error["type"] == "error"
    return error


async def test_values_are_stored_with_the_coordinates_of_their_set(gateway: RunningGateway) -> None:
    async with binary_socket(gateway) as socket:
        ack, first = await started(socket)
        assert ack["coordinate_set_id"] == first.coordinate_set_id
        frame = sampled(3, first)
        picture = WholeFrame(frame_id=3, encoding="png", data=encoded_png(IMAGE))
        await socket.send(binary_codec.encode_keyframe(picture))
        await socket.send(binary_codec.encode_frame(frame))
        (kept,) = await stored(gateway, 1)
    np.testing.assert_array_equal(kept.samples[:, [0, 1, 3]], first.coords)
    np.testing.assert_allclose(kept.samples[:, 2], frame.samples[:, 2], atol=0.5 / 255 + 1e-6)
    # What was recorded lies where the client looked: sampled again, it is the same.
    again = sample_image(IMAGE, kept.samples[:, [0, 1, 3]])
    np.testing.assert_array_equal(again[:, 2], frame.samples[:, 2])
    assert kept.state.tolist() == STATE.tolist()
    assert (kept.frame_id, kept.keyframe) == (3, picture.data)


async def test_an_answer_is_remembered_and_can_be_sampled(gateway: RunningGateway) -> None:
    coords = np.array([[0.25, 0.5, 4], [0.625, 0.1, 1]], np.float32)
    async with binary_socket(gateway) as socket:
        ack, first = await started(socket)
        await socket.send(binary_codec.encode_frame(sampled(0, first)))
        await stored(gateway, 1)
        chosen = CoordinatesChosen(
            session_id=ack["session_id"],
            gateway_id=gateway.settings.server.gateway_id,
            frame_id=0,
            coordinate_set_id=2,
            coords_bytes=pack_floats(coords[:, :2]),
            footprint_bytes=pack_footprints(coords[:, 2]),
            importance_width=2,
            importance_height=1,
            importance=b"\0\xff",
            model_version="v1",
            predicted_psnr_db=21.5,
            received_at_secs=0.0,
        )
        await gateway.bus.write(Publish(chosen))
        raw = await socket.recv()
        assert isinstance(raw, bytes)
        answer = binary_codec.decode_server_message(raw)
        np.testing.assert_allclose(answer.coords, coords, atol=1e-5)
        assert (answer.predicted_psnr_db, answer.importance) == (21.5, None)
        await socket.send(binary_codec.encode_frame(sampled(1, answer)))
        _, second = await stored(gateway, 2)
    np.testing.assert_array_equal(second.samples[:, [0, 1, 3]], answer.coords)


async def test_what_is_wrong_is_refused_and_the_session_goes_on(gateway: RunningGateway) -> None:
    async with binary_socket(gateway) as socket:
        _, first = await started(socket)
        whole = binary_codec.encode_frame(sampled(5, first))
        wrong = {
            "unknown_set": binary_codec.encode_frame(sampled(5, first, coordinate_set_id=999)),
            "bad_message": whole[:-1],
            "unknown_type": b"SG\x01\x09",
            "resolution_mismatch": binary_codec.encode_frame(
                sampled(5, first, resolution=Resolution(width=8, height=8))
            ),
            "state_too_long": binary_codec.encode_frame(
                sampled(5, first, state=np.zeros(65, np.float32))
            ),
            "bad_keyframe": binary_codec.encode_keyframe(
                WholeFrame(frame_id=5, encoding="png", data=b"no picture")
            ),
        }
        for code, message in wrong.items():
            error = await refusal(socket, message)
            assert (error["code"], error["fatal"]) == (code, False)
        await socket.send(whole)
        assert [frame.frame_id for frame in await stored(gateway, 1)] == [5]
        error = await refusal(socket, whole)
        assert error["code"] == "frame_id_backwards"


async def test_bytes_before_a_session_or_without_the_subprotocol_are_refused(
    gateway: RunningGateway,
) -> None:
    async with binary_socket(gateway) as socket:
        picture = WholeFrame(frame_id=0, encoding="png", data=b"")
        error = await refusal(socket, binary_codec.encode_keyframe(picture))
        assert (error["code"], error["fatal"]) == ("no_session", True)
    async with gateway.connect() as socket:
        error = await refusal(socket, b"SG\x01\x01")
        assert (error["code"], error["fatal"]) == ("bad_message", True)
        assert binary_codec.SUBPROTOCOL in error["message"]


def test_old_sets_are_forgotten() -> None:
    session = a_session()
    for set_id in range(session.sets_kept + 5):
        session.remember(set_id, np.ones((1, 3), np.float32))
    assert list(session.sets) == list(range(5, session.sets_kept + 5))


@pytest.mark.parametrize(("target_fps", "kept"), [(1, 16), (10, 20), (60, 120)])
async def test_the_sets_of_two_seconds_are_known(
    gateway_settings: Settings, target_fps: float, kept: int
) -> None:
    """A fast game on a long line answers to a set that many others have followed."""
    settings = gateway_settings.model_copy(update={"target_fps": target_fps})
    async with running_gateway(settings) as gateway, binary_socket(gateway) as socket:
        _, first = await started(socket)
        unknown = binary_codec.encode_frame(sampled(5, first, coordinate_set_id=999))
        assert f"the newest {kept} that" in (await refusal(socket, unknown))["message"]


@pytest.mark.parametrize("subprotocol", [binary_codec.SUBPROTOCOL, json_codec.SUBPROTOCOL])
async def test_the_client_speaks_what_the_server_chose(
    gateway: RunningGateway, subprotocol: str
) -> None:
    config = SessionConfig(
        url=gateway.ws_url,
        checkpoint_key="doom",
        width=WIDTH,
        height=HEIGHT,
        state_dim=2,
        subprotocols=(subprotocol,),
    )
    async with SgapsClient(config) as client:
        png = encoded_png(IMAGE)
        await client.send_frame(IMAGE, STATE, keyframe_png=png)
        (kept,) = await stored(gateway, 1)
        coords = client.state.coords
    assert kept.keyframe == png
    np.testing.assert_allclose(kept.samples[:, [0, 1, 3]], coords, atol=0.5 / 65535 + 1e-6)
    expected = sample_image(IMAGE, coords)[:, 2]
    np.testing.assert_allclose(kept.samples[:, 2], expected, atol=0.5 / 255 + 1e-6)
