"""Requests under the application: uvicorn's protocol for HTTP, made impatient and frugal."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.access import address_of
from gateway.transport import Impatient, answer

MAX_HEADER_LINES = 100
"""Of a request: a browser behind two proxies sends 40."""
MAX_HEAD_BYTES = 16 * 1024
"""Of a request's first line and headers, which h11 limits only where they come in pieces."""
BLANK_LINE = re.compile(rb"\n\r?\n")
MAX_OPEN_PER_ADDRESS = 512
"""Connections that are no sockets, or not yet: after a restart all sessions of an address come back
at once, by default up to 250."""
BUSY, CLOSING = object(), object()
"""A connection that is answering a request, or is closed but for what its client has not read."""


class _Requests(h11.Connection):
    """Builds nothing of a request whose head is too long: of a header line of four bytes, uvicorn
    and the application would make 270."""

    is_head_too_long = False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE and is_too_long(self.trailing_data[0]):
            self.is_head_too_long = True
            raise h11.RemoteProtocolError("the head of a request is too long")
        return super().next_event()


def is_too_long(unread: bytes) -> bool:
    """Whether the head of a request is, as far as it is here."""
    head = BLANK_LINE.split(unread, 1)[0]
    return len(head) > MAX_HEAD_BYTES or head.rstrip(b"\r\n").count(b"\n") > MAX_HEADER_LINES


class _Flow(FlowControl):
    """Reads nothing more while requests that were read wait for the one before them: with each
    that is answered uvicorn would read 256 KiB, of a client that waits for no answer."""

    def __init__(self, transport: asyncio.Transport, conn: h11.Connection) -> None:
        super().__init__(transport)
        self._conn = conn

    def resume_reading(self) -> None:
        if self._conn.their_state is not h11.DONE or not self._conn.trailing_data[0]:
            super().resume_reading()


class HttpProtocol(Impatient, H11Protocol):
    """HTTP, until a socket is upgraded."""

    address = ""
    """Where it comes from; "" for a proxy, whose connections are those of many clients."""
    _next_look: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self.conn: _Requests = _Requests(h11.SERVER, MAX_HEAD_BYTES)

    def connection_made(  # type: ignore[override]  # as uvicorn has it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self.conn)
        self.address = self._client_address()
        if self.address and self._open_count() > MAX_OPEN_PER_ADDRESS:
            why = (
                f"your address may have {MAX_OPEN_PER_ADDRESS} connections: close some, or name "
                "the proxy that they come through in server.trusted_proxies"
            )
            transport.write(answer(HTTPStatus.TOO_MANY_REQUESTS, why))
            transport.abort()  # to close under TLS waits for the client
            return
        self._next_look = self.later(self._look, None)

    def _client_address(self) -> str:
        host = self.client[0] if self.client else ""
        is_proxy = isinstance(self.app, ProxyHeadersMiddleware) and host in self.app.trusted_hosts
        return "" if is_proxy else address_of(host)

    def _open_count(self) -> int:
        """Of this address; uvicorn keeps the list."""
        others = (other for other in self.connections if isinstance(other, HttpProtocol))
        return sum(other.address == self.address for other in others)

    def send_400_response(self, msg: str) -> None:
        if not self.conn.is_head_too_long:
            super().send_400_response(msg)
            return
        why = f"a request has at most {MAX_HEADER_LINES} headers, in {MAX_HEAD_BYTES} bytes"
        self.transport.write(answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, why))
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.flow.resume_reading()  # where what was read ends within the next request

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._forget()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        """No timer keeps its last request."""
        self._unset_keepalive_if_required()
        if self._next_look is not None:
            self._next_look.cancel()

    def _look(self, seen: object) -> None:
        """Cut off who has begun no other request since the last look, or not read the answer."""
        is_idle = self.cycle is None or self.cycle.response_complete
        now: object = self.cycle if is_idle else BUSY
        if self.transport.is_closing():
            now = CLOSING
        if now is seen and now is not BUSY:
            self.transport.abort()
            return
        self._next_look = self.later(self._look, now)
