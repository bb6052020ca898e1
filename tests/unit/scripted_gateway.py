"""A small gateway for tests: a real socket, the real codec, and misbehaviour on demand."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import cv2
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from sgaps.protocol import json_codec
from sgaps.protocol.messages import (
    Error,
    FrameData,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Keyframe,
    SessionStart,
    SessionStartAck,
    UvCoordinates,
)

CENTRE_OF_PIXEL_1_2 = (1.5 / 8, 2.5 / 6)
"""In a picture of 8 by 6 pixels."""


@dataclass
class ScriptedGateway:
    """Answers every frame; what differs from that is set by the test."""

    keyframe_interval: int = 0
    target_fps: float = 200.0
    drop_at_frames: set[int] = field(default_factory=set)
    """Break the connection when this frame arrives; it counts as never read."""
    freeze_at_frame: int | None = None
    """Read nothing after this frame, and leave the connection open."""
    forgets_sessions: bool = False
    refuse_starts: list[Error] = field(default_factory=list)
    refuse_frames: dict[int, Error] = field(default_factory=dict)
    refuse_heartbeats: list[Error] = field(default_factory=list)
    stalls_secs: list[float] = field(default_factory=list)
    """How long nothing is read for, at heartbeats: as if they had waited behind frames."""
    superseded_frames: set[int] = field(default_factory=set)
    """Taken in and recorded, but not answered."""
    coords: tuple[tuple[float, float], ...] | tuple[tuple[float, float, int], ...] = (
        CENTRE_OF_PIXEL_1_2,
    )
    features: list[str] = field(default_factory=list)
    picture: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((6, 8), np.uint8))
    """What it says its reconstructions look like."""
    starts: list[SessionStart] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    """Headers of the requests for reconstructions."""
    frames: dict[str, list[FrameData]] = field(default_factory=dict)
    received: list[SessionStart | FrameData | Keyframe | Heartbeat] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/stream"

    def frame_ids(self, session_id: str) -> list[int]:
        return [frame.frame_id for frame in self.frames[session_id]]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        async with serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[json_codec.SUBPROTOCOL],  # type: ignore[list-item]
            process_request=self._http,
            close_timeout=1,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield server

    async def _serve(self, socket: ServerConnection) -> None:
        session_id = await self._start(socket)
        if session_id is None:
            return
        try:
            async for raw in socket:
                if socket.transport.is_closing():
                    return  # a gateway that died reads nothing that came before
                await self._answer(socket, session_id, raw)
        except ConnectionClosed:
            return

    async def _start(self, socket: ServerConnection) -> str | None:
        start = json_codec.decode_client_message(await socket.recv())
        assert isinstance(start, SessionStart)
        self.starts.append(start)
        refusal = self._refusal_of(start)
        if refusal is not None:
            await _send(socket, refusal)
            return None
        session_id = start.resume_session_id or f"session-{len(self.frames)}"
        last_frame_id = max(
            (frame.frame_id for frame in self.frames.setdefault(session_id, [])), default=-1
        )
        await _send(
            socket,
            SessionStartAck(
                session_id=session_id,
                checkpoint_loaded=False,
                sample_count=len(self.coords),
                max_state_dim=2,
                target_fps=self.target_fps,
                model_version="telea",
                coordinate_set_id=last_frame_id + 1,
                keyframe_interval=self.keyframe_interval,
                resumed=start.resume_session_id is not None,
                last_frame_id=last_frame_id,
                features=self.features,
            ),
        )
        await _send(socket, self._coordinates(-1, set_id=last_frame_id + 1))
        return session_id

    def _refusal_of(self, start: SessionStart) -> Error | None:
        if self.refuse_starts:
            return self.refuse_starts.pop(0)
        if start.resume_session_id is not None and self.forgets_sessions:
            return Error(code="session_not_found", message="no such session", fatal=True)
        return None

    async def _answer(self, socket: ServerConnection, session_id: str, raw: str | bytes) -> None:
        message = json_codec.decode_client_message(raw)
        self.received.append(message)
        if isinstance(message, Heartbeat):
            await self._answer_heartbeat(socket, session_id, message)
        if isinstance(message, FrameData):
            await self._answer_frame(socket, session_id, message)

    async def _answer_frame(
        self, socket: ServerConnection, session_id: str, frame: FrameData
    ) -> None:
        if frame.frame_id == self.freeze_at_frame:
            socket.transport.pause_reading()
            await socket.wait_closed()  # to read on what came before would undo the pause
        elif frame.frame_id in self.drop_at_frames:
            self.drop_at_frames.remove(frame.frame_id)
            socket.transport.abort()
        elif frame.frame_id in self.refuse_frames:
            await _send(socket, self.refuse_frames[frame.frame_id])
        else:
            self.frames[session_id].append(frame)
            if frame.frame_id in self.superseded_frames:
                return
            await _send(socket, self._coordinates(frame.frame_id, set_id=frame.frame_id + 1))

    def _coordinates(self, frame_id: int, *, set_id: int) -> UvCoordinates:
        return UvCoordinates(
            frame_id=frame_id,
            coords=[*self.coords],
            coordinate_set_id=set_id,
            model_version="telea",
        )

    async def _answer_heartbeat(
        self, socket: ServerConnection, session_id: str, heartbeat: Heartbeat
    ) -> None:
        if self.stalls_secs:
            await asyncio.sleep(self.stalls_secs.pop())
        if self.refuse_heartbeats:
            await _send(socket, self.refuse_heartbeats.pop())
        else:
            await _send(socket, self._heartbeat_ack(session_id, heartbeat))

    def _heartbeat_ack(self, session_id: str, heartbeat: Heartbeat) -> HeartbeatAck:
        recorded = self.frames[session_id]
        return HeartbeatAck(
            timestamp=heartbeat.timestamp,
            server_time=0.0,
            last_recorded_frame_id=recorded[-1].frame_id if recorded else -1,
            target_fps=self.target_fps,
        )

    def _http(self, _: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/api/sessions/"):
            return None
        self.authorizations.append(request.headers.get("Authorization"))
        frames = self.frames[request.path.split("/")[3]]
        headers = Headers({"X-Frame-Id": str(frames[-1].frame_id) if frames else "-1"})
        found, encoded = cv2.imencode(".png", self.picture)
        assert found
        return Response(HTTPStatus.OK, "OK", headers, encoded.tobytes())


async def _send(socket: ServerConnection, message: FromServer) -> None:
    await socket.send(json_codec.encode(message))


def decoded_keyframe(keyframe: Keyframe) -> NDArray[np.uint8]:
    data = np.frombuffer(base64.b64decode(keyframe.data), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
