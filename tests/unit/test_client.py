"""The Python client: real sources, honest samples, and a session that outlives its connection."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from sgaps.errors import ErrorCode, ProtocolError, SourceError
from sgaps_client.client import SessionConfig, SgapsClient
from sgaps_client.player import http_url, psnr_db
from sgaps_client.sampling import sample_image
from sgaps_client.sources import GameFrame, checkpoint_key, open_source

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
STATE = np.array([1.0], np.float32)


def first_frames(spec: str, count: int, **options: Any) -> list[GameFrame]:
    source = open_source(spec, **options)
    try:
        return list(islice(source.frames(), count))
    finally:
        source.close()


@pytest.mark.parametrize(
    ("spec", "shape"), [("doom/my_way_home", (240, 320)), ("atari/pong", (210, 160))]
)
def test_a_game_moves_and_can_be_repeated(spec: str, shape: tuple[int, int]) -> None:
    frames, again = first_frames(spec, 12, seed=3), first_frames(spec, 12, seed=3)
    assert {frame.image.shape for frame in frames} == {shape}
    assert all(np.isfinite(frame.state).all() for frame in frames)
    assert 0 < len(frames[0].state) <= 64
    assert (frames[0].image != frames[-1].image).any()
    for frame, same in zip(frames, again, strict=True):
        np.testing.assert_array_equal(frame.image, same.image)
        np.testing.assert_array_equal(frame.state, same.state)


def test_a_video_and_a_folder_of_images_give_the_same_frames(tmp_path: Path) -> None:
    video, folder = tmp_path / "v.avi", tmp_path / "images"
    folder.mkdir()
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for i in range(4):
        picture = np.full((24, 32, 3), 60 * i, np.uint8)
        writer.write(picture)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    writer.release()
    from_video, from_folder = first_frames(str(video), 9), first_frames(str(folder), 9)
    assert len(from_video) == len(from_folder) == 4
    for one, other in zip(from_video, from_folder, strict=True):
        np.testing.assert_allclose(one.image, other.image, atol=3)


@pytest.mark.parametrize("spec", ["nothing", "doom/nowhere", "atari/nothing", "/no/such/file.mp4"])
def test_an_unknown_source_is_named_with_what_there_is(spec: str) -> None:
    with pytest.raises(SourceError, match=r"doom|atari|there is no"):
        open_source(spec)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError):
        first_frames(str(tmp_path / "a.mp4"), 1)


def test_the_key_of_a_source_is_an_identifier() -> None:
    assert checkpoint_key("doom/my_way_home") == "doom-my_way_home"


def test_samples_are_the_pixels_at_the_coordinates() -> None:
    coords = np.array([[0.125, 1 / 6], [0.99, 0.99], [1.0, 0.0]], np.float32)
    samples = sample_image(IMAGE, coords)
    np.testing.assert_allclose(samples[:, 2] * 255, [0, 220, 60])
    np.testing.assert_array_equal(samples[:, :2], coords)


def test_psnr_and_addresses() -> None:
    assert psnr_db(IMAGE, IMAGE) == 100
    assert psnr_db(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)) == 0
    assert http_url("ws://h:8000/ws/stream") == "http://h:8000"
    assert http_url("wss://h/ws/stream") == "https://h"


class ScriptedServer:
    """Speaks the server's side over a real socket, and does with a connection what it is told."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.frames: list[dict[str, Any]] = []
        self.drop_after_frames: int | None = None
        self.refuse_resume = False
        self.fatal_code = ""

    async def __call__(self, socket: ServerConnection) -> None:
        async for raw in socket:
            message = json.loads(raw)
            if message["type"] == "session_start":
                await self._start(socket, message)
            elif message["type"] == "frame_data":
                self.frames.append(message)
                if len(self.frames) == self.drop_after_frames:
                    await socket.close()

    async def _start(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        self.starts.append(message)
        resumes = "resume_session_id" in message
        code = self.fatal_code or ("session_not_found" if resumes and self.refuse_resume else "")
        if code:
            await socket.send(json.dumps({"type": "error", "code": code, "message": "no"}))
            await socket.close()
            return
        ack = {
            "type": "session_start_ack",
            "session_id": f"s{len(self.starts)}",
            "checkpoint_loaded": False,
            "sample_count": 1,
            "max_state_dim": 64,
            "target_fps": 10,
            "model_version": "v",
            "coordinate_set_id": 1,
            "keyframe_interval": 2,
            "resumed": resumes,
        }
        first = {
            "type": "uv_coordinates",
            "frame_id": -1,
            "coords": [[0.125, 0.5]],
            "coordinate_set_id": 1,
            "model_version": "v",
        }
        await socket.send(json.dumps(ack))
        await socket.send(json.dumps(first))


async def play(server: ScriptedServer, frames: int) -> SgapsClient:
    async with serve(server, "127.0.0.1", 0) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        config = SessionConfig(url=f"ws://127.0.0.1:{port}", checkpoint_key="k", width=4, height=3)
        async with asyncio.timeout(20), SgapsClient(config) as client:
            while len(server.frames) < frames:
                await client.send_frame(IMAGE, STATE, keyframe_png=None)
                await asyncio.sleep(0.02)
            return client


async def test_a_frame_is_sampled_where_the_server_asked() -> None:
    server = ScriptedServer()
    client = await play(server, 1)
    frame = server.frames[0]
    assert frame["pixels"] == [[0.125, 0.5, pytest.approx(80 / 255, abs=1e-5)]]
    assert (frame["frame_id"], frame["coordinate_set_id"]) == (0, 1)
    assert frame["state_vector"] == [1.0]
    assert client.state.model_version == "v"


async def test_a_lost_connection_is_resumed_and_ids_go_on() -> None:
    server = ScriptedServer()
    server.drop_after_frames = 2
    client = await play(server, 4)
    assert "resume_session_id" not in server.starts[0]
    assert server.starts[1]["resume_session_id"] == "s1"
    ids = [frame["frame_id"] for frame in server.frames]
    assert ids == sorted(set(ids))
    assert client.state.resumed_count == 1


async def test_a_forgotten_session_is_started_anew() -> None:
    server = ScriptedServer()
    server.drop_after_frames, server.refuse_resume = 2, True
    client = await play(server, 4)
    assert len(server.starts) == 3
    assert client.state.session_id == "s3"
    assert server.frames[2]["frame_id"] == 0


async def test_a_refusal_for_good_is_raised() -> None:
    server = ScriptedServer()
    server.fatal_code = "unauthorized"
    with pytest.raises(ProtocolError) as caught:
        await play(server, 1)
    assert caught.value.code is ErrorCode.UNAUTHORIZED
