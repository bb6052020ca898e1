"""What a socket's protocol hands on of what was read at once, and says when the gateway stops."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.frames import CloseCode, Frame, Opcode

from gateway.transport import PART_BYTES, SocketProtocol
from integration.conftest import running_gateway
from integration.raw_client import HANDSHAKE
from integration.talk import receive, send, start
from sgaps.settings import Settings

READ_BYTES = 256 * 1024
"""What asyncio reads at once."""


class _Nowhere(asyncio.Transport):
    """It counts how often reading is paused and resumed, and takes all that is written."""

    paused = 0

    def write(self, data: object) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def test_messages_that_were_read_at_once_are_taken_in_parts_and_none_is_lost() -> None:
    """To parse the 43,000 frames that a read may hold takes a second, in which nobody is served."""
    told: list[str] = []
    at_once: list[int] = []
    may_read = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await may_read.wait()
        while len(told) < len(sent):
            at_once.append(protocol.queue.qsize())
            told.append((await receive())["text"])

    sent = [str(n) for n in range(READ_BYTES // 12)]
    raw = b"".join(Frame(Opcode.TEXT, text.encode()).serialize(mask=True) for text in sent)
    transport = _Nowhere()
    config = Config(app, ws=SocketProtocol, ws_ping_interval=None, log_config=None)
    config.load()
    protocol = SocketProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(transport)
    protocol.data_received(HANDSHAKE.encode())
    await asyncio.sleep(0)
    protocol.data_received(raw)
    assert transport.paused == 1
    may_read.set()
    await asyncio.gather(*protocol.tasks)
    assert told == sent
    assert max(at_once) < PART_BYTES / len(Frame(Opcode.TEXT, b"").serialize(mask=True))
    assert transport.paused == 0


async def test_who_plays_nothing_hears_that_the_gateway_goes_as_players_do(
    gateway_settings: Settings,
) -> None:
    """Not 1012, "service restart": .NET takes that for a fault of the connection."""
    async with running_gateway(gateway_settings) as gateway, gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        url = f"ws://127.0.0.1:{gateway.port}/ws/view/{session_id}"
        async with gateway.connect() as silent, connect(url) as late, connect(url) as viewer:
            await send(viewer, {"type": "view_start"})
            assert (await receive(viewer))["type"] == "view_status"
            gateway.stop.set()
            sockets = (game, silent, late, viewer)
            await asyncio.gather(*(socket.wait_closed() for socket in sockets))
    assert [socket.close_code for socket in sockets] == [CloseCode.GOING_AWAY] * 4
