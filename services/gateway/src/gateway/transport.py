"""The sockets under the application: uvicorn's protocols, made impatient and frugal.

A client that does not read, answer pings or finish its request is cut off. uvicorn closes such a
socket politely, which waits for the very client that does not answer. What is too long is refused
before it is in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request

from gateway.limits import FIRST_MESSAGE_BYTES, Bucket
from sgaps.errors import ErrorCode
from sgaps.metrics import gateway as metrics
from sgaps.protocol.json_codec import encode
from sgaps.protocol.messages import Error

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

ADMIT = "sgaps.admit"
"""In the `state` of a socket's scope: to be called when its session has begun."""
MAX_FRAGMENTS = 4096
"""Of one message. Empty ones are free of the size limit, but not of memory."""
PINGS_PER_SEC = 10
UNSEEN_PER_SEC = 1000
UNSEEN_AT_ONCE = MAX_FRAGMENTS
"""Pongs, fragments, and messages after a close: the application limits what it sees."""
PART_BYTES = 8192
"""Of a read, whose 256 KiB may be 43,000 empty frames: to parse them at once takes a second."""
ENOUGH_MESSAGES = 32
"""In the queue, until more of a read is parsed: with two, JSON took longer by the queue's turns."""
NOTHING = memoryview(b"")
SILENCE_SECS = 0.5
"""Of a client that was refused: then it has read why."""


def admit(scope: MutableMapping[str, Any]) -> None:
    """Let messages be as long as those of a session may be."""
    admitted: Callable[[], None] = scope["state"][ADMIT]
    admitted()


class Impatient(asyncio.Protocol):
    """Cuts off a peer that leaves what is sent to it unread for `server.client_timeout_secs`."""

    config: Config
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _cut: asyncio.TimerHandle | None = None

    def later(self, action: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """Do something in `server.client_timeout_secs`, which uvicorn knows as that of a ping."""
        return self.loop.call_later(self.config.ws_ping_timeout or 0, action, *arguments)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.later(self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._keep()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep()
        super().connection_lost(exc)

    def _keep(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


class SocketProtocol(Impatient, WebSocketsSansIOProtocol):
    """WebSocket. Before its session a client may send `FIRST_MESSAGE_BYTES` at once."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self.conn.max_message_size = FIRST_MESSAGE_BYTES
        self._pings = Bucket(PINGS_PER_SEC, PINGS_PER_SEC)
        self._unseen = Bucket(UNSEEN_PER_SEC, UNSEEN_AT_ONCE)
        self._unread = NOTHING
        self._is_refused = False
        self._silence: asyncio.TimerHandle | None = None
        self._unfinished: asyncio.TimerHandle | None = None

    def _admit(self) -> None:
        self.conn.max_message_size = self.config.ws_max_size

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["state"][ADMIT] = self._admit

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()
        self._unread = NOTHING
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._hang_up_after_silence()
            return
        self._unread = memoryview(bytes(self._unread) + data)
        self._read_on()

    async def receive(self) -> ASGIReceiveEvent:
        self._read_on()
        return await super().receive()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        self.handshake_complete |= self.close_sent  # which uvicorn forgets of one that was refused
        self._read_on()  # after a close: the answer to it

    def _read_on(self) -> None:
        """In parts, until there are enough messages to take: reading stays paused then."""
        while self._unread and (self.queue.qsize() < ENOUGH_MESSAGES or self.close_sent):
            part, self._unread = self._unread[:PART_BYTES], self._unread[PART_BYTES:]
            super().data_received(bytes(part))
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self._refuse_upgrade()
            if self.frames and self._unfinished is None:
                self._unfinished = self.later(self._look_for_the_rest)

    def shutdown(self) -> None:
        """Say that the server goes. uvicorn would say 1012, which .NET cannot read."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY})
            self.conn.send_close(CloseCode.GOING_AWAY)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()

    def handle_ping(self) -> None:
        """A pong to nobody who reads it would be kept; who pings in a flood gets none."""
        if self._pings.take():
            self._refuse(CloseCode.POLICY_VIOLATION, "too many pings")
        elif self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        if self._may_come_unseen():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self._refuse(CloseCode.MESSAGE_TOO_BIG, f"more than {MAX_FRAGMENTS} fragments")
        elif self._may_come_unseen():
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        self._finish()
        if self.close_sent:
            self.frames = []
            self._may_come_unseen()
        elif self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            self._refuse(CloseCode.INVALID_DATA, "text that is no UTF-8")
        else:
            super().send_receive_event_to_app()

    def _may_come_unseen(self) -> bool:
        """Count a frame that the application does not see, and refuse the first of too many."""
        is_flood = self._unseen.take() > 0
        if is_flood:
            self._refuse(CloseCode.POLICY_VIOLATION, "too many pongs or fragments")
        return not is_flood

    def _finish(self) -> None:
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None

    def _look_for_the_rest(self) -> None:
        """Of a message in fragments: between them a client may answer pings for ever."""
        if self.read_paused:  # by us: the rest may be here
            self._unfinished = self.later(self._look_for_the_rest)
        else:
            self._refuse(CloseCode.POLICY_VIOLATION, "a message was not finished in time")

    def _refuse(self, code: CloseCode, reason: str) -> None:
        """Once. Who was told to go already is told nothing more."""
        if self._is_refused:
            return
        if self.close_sent:
            self._unread = NOTHING
            self.transport.abort()
            return
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Say what was wrong, discard what still comes, and hang up.

        Closing at once, with bytes unread, would take the answer back.
        """
        sent = self.conn.close_sent
        code, reason = (sent.code, sent.reason) if sent else (CloseCode.ABNORMAL_CLOSURE, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        output = b"".join(self.conn.data_to_send())
        if sent and not self.close_sent:
            output = _told(code, reason, self.conn.max_message_size) + output
        self.transport.write(output)
        self.frames = []
        self._unread = NOTHING
        self._is_refused = self.close_sent = self.disconnected = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        self._hang_up_after_silence()

    def _hang_up_after_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(SILENCE_SECS, self.transport.close)

    def _refuse_upgrade(self) -> None:
        """A request that `websockets` cannot read, of which uvicorn hears nothing."""
        self.transport.write(b"".join(self.conn.data_to_send()) or answer(HTTPStatus.BAD_REQUEST))
        self._unread = NOTHING
        self._is_refused = self.close_sent = self.handshake_complete = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        self._hang_up_after_silence()

    def keepalive_timeout(self) -> None:
        self.pong_timer = None
        self.transport.abort()

    def send_keepalive_ping(self) -> None:
        if self.close_sent or self.transport.is_closing():
            self.pong_timer = self.later(self.transport.abort)
        else:
            super().send_keepalive_ping()


def answer(status: HTTPStatus, why: str = "") -> bytes:
    """A whole response, after which the connection is closed."""
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
    return f"{head}Content-Type: text/plain\r\nContent-Length: {len(why)}\r\n\r\n{why}".encode()


def _is_utf8(frames: list[bytes]) -> bool:
    try:
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return False
    return True


def _told(code: int, reason: str, max_message_bytes: int | None) -> bytes:
    """The typed error before a close that the transport itself makes, as a WebSocket frame."""
    too_large = code == CloseCode.MESSAGE_TOO_BIG
    error = Error(
        code=(ErrorCode.MESSAGE_TOO_LARGE if too_large else ErrorCode.BAD_MESSAGE).value,
        message=f"at most {max_message_bytes} bytes: {reason}" if too_large else reason,
        fatal=True,
    )
    metrics.MESSAGES_REFUSED.labels(error.code).inc()
    return Frame(Opcode.TEXT, encode(error).encode()).serialize(mask=False)
