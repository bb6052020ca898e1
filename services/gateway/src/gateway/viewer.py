"""One viewer's socket, `/ws/view/{session_id}`: it is told of a session, and only listens."""

from __future__ import annotations

import asyncio
import logging
import time

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from gateway.access import check_token, client_address
from gateway.readiness import what_is_missing
from gateway.session import Session
from gateway.shared import Gateway
from gateway.sockets import close, first_message, receive, told
from gateway.views import Newest, counters
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol import json_codec
from sgaps.protocol.messages import FromServer
from sgaps.protocol.views import ViewStatus

log = logging.getLogger(__name__)

STATUS_EVERY_SECS = 1.0


class Viewer:
    """Sends what is newest, as fast as the viewer reads and no faster."""

    def __init__(self, socket: WebSocket, gateway: Gateway, session_id: str) -> None:
        self._socket = socket
        self._gateway = gateway
        self._session_id = session_id

    async def run(self) -> None:
        """Serve the socket until either side closes it."""
        await self._socket.accept()
        try:
            await self._serve()
        except WebSocketDisconnect:
            pass
        except ProtocolError as error:
            await self._farewell(error)

    async def _serve(self) -> None:
        address = client_address(self._socket)
        with self._gateway.waiting.place(address):
            await self._open()
        with self._gateway.views.of(self._session_id, address) as newest:
            await self._until_one_ends(newest)

    async def _open(self) -> None:
        """Let in who may look. Raises ProtocolError."""
        raw = await first_message(self._socket, self._gateway, wanted="view_start")
        if isinstance(raw, bytes):
            raise ProtocolError(ErrorCode.BAD_MESSAGE, "view_start is a message of text")
        start = json_codec.decode_viewer_message(raw)
        check_token(self._socket, self._gateway, start.auth_token)
        self._session()

    async def _until_one_ends(self, newest: Newest) -> None:
        tasks = {asyncio.create_task(self._listen()), asyncio.create_task(self._tell(newest))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _listen(self) -> None:
        """A viewer has nothing more to say; this hears that it goes."""
        await receive(self._socket)
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "a viewer sends view_start and nothing else")

    async def _tell(self, newest: Newest) -> None:
        """The only writer: the newest view when there is one, and a status every second."""
        status_at_secs = time.monotonic()
        while True:
            view = await newest.take(max(0.0, status_at_secs - time.monotonic()))
            if view is not None:
                await self._socket.send_bytes(view)
            if time.monotonic() >= status_at_secs:
                await self._send(self._status())
                status_at_secs = time.monotonic() + STATUS_EVERY_SECS

    def _status(self) -> ViewStatus:
        session = self._session()
        return ViewStatus(
            server_time=time.time(),
            connected=session.connected,
            last_frame_id=session.last_frame_id,
            last_answered_frame_id=session.last_answered_frame_id,
            counters=counters(session),
            missing=what_is_missing(self._gateway),
        )

    def _session(self) -> Session:
        """Looked up each time: it may be forgotten meanwhile. Raises ProtocolError."""
        session = self._gateway.sessions.get(self._session_id)
        if session is None:
            raise ProtocolError(ErrorCode.SESSION_NOT_FOUND, "no such session on this gateway")
        return session

    async def _send(self, message: FromServer) -> None:
        await self._socket.send_text(json_codec.encode(message))

    async def _farewell(self, error: ProtocolError) -> None:
        try:
            await self._send(told(error, fatal=True))
            await close(self._socket, error)
        except WebSocketDisconnect:
            log.debug("a viewer did not wait for %s", error)
