"""What a socket does whatever it is for: lets in who may come, receives, says why it is closed."""

from __future__ import annotations

import asyncio

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from gateway.access import check_origin
from gateway.shared import Gateway
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.messages import Error

CLOSE_GOING_AWAY = 1001
"""Not 1012, "service restart": .NET's WebSocket takes that for a fault of the connection."""
CLOSE_INTERNAL_ERROR = 1011
CLOSE_POLICY_VIOLATION = 1008
CLOSE_CODES = {
    ErrorCode.INTERNAL: CLOSE_INTERNAL_ERROR,
    ErrorCode.SHUTTING_DOWN: CLOSE_GOING_AWAY,
}


async def receive(socket: WebSocket) -> str | bytes:
    """The next message. Raises WebSocketDisconnect."""
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1000))
    text: str | None = event.get("text")
    data: bytes = event.get("bytes") or b""
    return data if text is None else text


async def first_message(socket: WebSocket, gateway: Gateway, *, wanted: str) -> str | bytes:
    """What a socket begins with, from a page that may come, in time. Raises ProtocolError."""
    check_origin(socket, gateway)
    timeout_secs = gateway.settings.server.session_start_timeout_secs
    try:
        async with asyncio.timeout(timeout_secs):
            return await receive(socket)
    except TimeoutError as error:
        raise ProtocolError(
            ErrorCode.START_TIMEOUT, f"no {wanted} in {timeout_secs:g} s"
        ) from error


def told(error: ProtocolError, *, fatal: bool) -> Error:
    """What the other side is sent of an error."""
    return Error(
        code=error.code.value,
        message=error.message,
        fatal=fatal,
        retry_after_secs=error.retry_after_secs,
    )


async def close(socket: WebSocket, error: ProtocolError) -> None:
    """With the code of what is wrong."""
    code = CLOSE_CODES.get(error.code, CLOSE_POLICY_VIOLATION)
    await socket.close(code, error.code.value)
