"""HTTP from whoever reaches the port: long requests, many connections, answers left unread."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack

import httpx
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway import requests
from gateway.requests import MAX_HEAD_BYTES, MAX_HEADER_LINES, HttpProtocol, is_too_long
from integration.conftest import RunningGateway, eventually, running_gateway, with_changes
from integration.raw_client import HANDSHAKE, RawClient, raw_client
from integration.talk import start
from sgaps.settings import Settings
from waiting import PATIENCE_SECS

SHORT = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
READ_BYTES = 256 * 1024
"""What asyncio reads at once."""


def request(headers: int, *, path: str = "/api/health") -> bytes:
    """One with so many of them."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", *["a:"] * (headers - 1)]
    return "\r\n".join([*lines, "", ""]).encode()


async def status_of(client: RawClient, sent: bytes) -> bytes:
    await client.send(sent)
    return (await client.receive_until(b"\r\n\r\n")).split(b" ")[1]


async def test_a_request_has_only_so_many_headers(gateway: RunningGateway) -> None:
    async with raw_client(gateway) as modest, raw_client(gateway) as greedy:
        assert await status_of(modest, request(MAX_HEADER_LINES)) == b"200"
        await greedy.send(request(MAX_HEADER_LINES + 1))
        told = await greedy.receive_all()
    assert told.startswith(b"HTTP/1.1 431 ")
    assert told.endswith(b"a request has at most 100 headers, in 16384 bytes")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request(READ_BYTES // 4 - 100), id="as many as one read holds"),
        pytest.param(request(2, path="/" + "a" * 2 * MAX_HEAD_BYTES), id="long, though whole"),
        pytest.param(request(5000)[:-2], id="without an end"),
        pytest.param(SHORT + request(5000), id="behind another request"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" + request(5000),
            id="behind the body of another",
        ),
    ],
)
async def test_a_long_request_is_refused_wherever_it_comes(
    gateway: RunningGateway, sent: bytes
) -> None:
    async with raw_client(gateway) as client:
        await client.send(sent)
        assert b"HTTP/1.1 431 " in await client.receive_all()


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_no_request_is_refused_for_where_it_is_cut(line_end: bytes) -> None:
    whole = request(MAX_HEADER_LINES).replace(b"\r\n", line_end)
    assert not any(is_too_long(whole[:size]) for size in range(len(whole) + 1))
    assert not is_too_long(whole + b"a\r\n" * 1000)  # a body's
    assert is_too_long(request(MAX_HEADER_LINES + 1).replace(b"\r\n", line_end))


async def open_ones(gateway: RunningGateway, count: int, stack: AsyncExitStack) -> list[RawClient]:
    """Connections that were let in, and stay."""
    clients = [await stack.enter_async_context(raw_client(gateway)) for _ in range(count)]
    assert [await status_of(client, SHORT) for client in clients] == [b"200"] * count
    return clients


async def test_one_address_has_only_so_many_connections_open(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets are counted elsewhere, and who goes makes room."""
    monkeypatch.setattr(requests, "MAX_OPEN_PER_ADDRESS", 2)
    async with AsyncExitStack() as stack, gateway.connect() as game, gateway.connect():
        await start(game)
        first, _ = await open_ones(gateway, 2, stack)
        async with raw_client(gateway) as third:
            told = await third.receive_all()
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"server.trusted_proxies" in told
        first.socket.close()

        async def let_in() -> bool:
            async with raw_client(gateway) as client:
                try:
                    return await status_of(client, SHORT) == b"200"
                except ConnectionError:
                    return False

        await eventually(let_in)


async def test_the_connections_of_a_trusted_proxy_are_those_of_many(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_OPEN_PER_ADDRESS", 2)
    settings = with_changes(gateway_settings, server={"trusted_proxies": ["127.0.0.0/8"]})
    async with running_gateway(settings) as gateway, AsyncExitStack() as stack:
        await open_ones(gateway, 4, stack)


async def test_nothing_is_kept_of_who_has_gone(gateway_settings: Settings) -> None:
    """Nor of a request that became a socket: a timer would hold its headers."""
    settings = with_changes(gateway_settings, server={"client_timeout_secs": 1000})

    async def kept() -> int:
        gc.collect()
        return sum(type(held) is HttpProtocol for held in gc.get_objects())

    async def none_is() -> bool:
        return await kept() == 0

    async with running_gateway(settings) as gateway, raw_client(gateway) as socket:
        await socket.send(HANDSHAKE.encode())
        await socket.receive_until(b"\r\n\r\n")
        async with httpx.AsyncClient(base_url=gateway.http_url) as http:
            assert (await http.get("/api/health")).status_code == 200
            assert await kept() > 0
        await eventually(none_is)


class _Unread(asyncio.Transport):
    """To a client that reads nothing: what was written stays, and it never closes by itself."""

    is_closed = is_aborted = False

    def write(self, data: object) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed


async def test_an_answer_that_nobody_reads_is_not_kept_however_short() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        pass

    transport = _Unread()
    config = Config(app, http=HttpProtocol, ws_ping_timeout=0.1, log_config=None)
    config.load()
    protocol = HttpProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(transport)
    protocol.data_received(request(MAX_HEADER_LINES + 1))
    assert (transport.is_closed, transport.is_aborted) == (True, False)

    async def aborted() -> bool:
        return transport.is_aborted

    await eventually(aborted)


async def test_requests_that_nobody_waits_with_are_read_as_they_are_answered(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are answered, wherever one read ends and the next begins; and few lie in memory."""
    unread: list[int] = []
    data_received = HttpProtocol.data_received

    def observed(protocol: HttpProtocol, data: bytes) -> None:
        data_received(protocol, data)
        unread.append(len(protocol.conn.trailing_data[0]))

    monkeypatch.setattr(HttpProtocol, "data_received", observed)
    one = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 3000 + b"\r\n\r\n"
    async with (
        raw_client(gateway) as client,
        asyncio.timeout(PATIENCE_SECS),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(client.send(one * 300))
        received = b""
        while received.count(b"HTTP/1.1 200 ") < 300:
            received += await client.receive()
    assert len(unread) > 1
    assert max(unread) < READ_BYTES + len(one)
