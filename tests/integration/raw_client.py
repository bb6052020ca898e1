"""A WebSocket client that misbehaves: a plain socket, and frames made by hand."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.frames import Frame, Opcode

from integration.conftest import RunningGateway
from integration.talk import START
from waiting import PATIENCE_SECS

RECEIVE_BUFFER_BYTES = 4096
"""Little fits between the gateway and a client that does not read."""
HANDSHAKE = (
    "GET /ws/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass(frozen=True)
class RawClient:
    """Nothing is read, and no ping is answered, unless a test does."""

    socket: socket.socket

    async def send(self, raw: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, raw)

    async def send_frame(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
        await self.send(Frame(opcode, data, fin=fin).serialize(mask=True))

    async def receive(self) -> bytes:
        """What came, b"" at the end."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
        except ConnectionResetError:
            return b""

    async def receive_all(self) -> bytes:
        """Until the gateway hangs up."""
        received = b""
        async with asyncio.timeout(PATIENCE_SECS):
            while data := await self.receive():
                received += data
        return received

    async def receive_until(self, word: bytes) -> bytes:
        received = b""
        async with asyncio.timeout(PATIENCE_SECS):
            while word not in received:
                data = await self.receive()
                assert data, f"no {word!r} in {received!r}"
                received += data
        return received

    async def start(self) -> str:
        """Begin a session; its id."""
        await self.send(HANDSHAKE.encode())
        await self.receive_until(b"\r\n\r\n")
        await self.send_frame(Opcode.TEXT, json.dumps(START).encode())
        received = await self.receive_until(b'"uv_coordinates"')
        return received.split(b'"session_id":"')[1].split(b'"')[0].decode()


@asynccontextmanager
async def raw_client(gateway: RunningGateway) -> AsyncIterator[RawClient]:
    """A connection to the gateway without a request yet."""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", gateway.port))
        yield RawClient(plain)
