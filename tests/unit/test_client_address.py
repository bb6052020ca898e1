"""Addresses that people give, and servers that are not there or are no gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from sgaps.errors import SettingsError
from sgaps.protocol.messages import Error
from sgaps_client import client as client_module
from sgaps_client.address import (
    http_client,
    http_url,
    is_loopback,
    is_proxy_readable,
    shown,
    told_loss,
)
from sgaps_client.client import NoSession, SgapsClient
from sgaps_client.state import SessionConfig
from unit.scripted_gateway import ScriptedGateway
from waiting import eventually

REDIRECTIONS = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND)
PAGE = "https://me:secret@login.example/"
"""Where a proxy sends whoever has no TLS, or is not signed in."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_SECS", 0.01)


def config_of(url: str) -> SessionConfig:
    return SessionConfig(url=url, checkpoint_key="doom", width=8, height=6, state_dim=3)


@asynccontextmanager
async def answering(
    status: HTTPStatus, port: int = 0, *, location: str = PAGE
) -> AsyncIterator[str]:
    """The address of a server that answers every handshake so."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        response = connection.respond(status, "")
        if status in REDIRECTIONS:
            response.headers["Location"] = location
        return response

    async with serve(_nothing, "127.0.0.1", port, process_request=refuse) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws/stream"


async def _nothing(_: ServerConnection) -> None: ...


@pytest.mark.parametrize(
    "proxy",
    ["proxy.corp:3128", "socks5://127.0.0.1:1", "http://proxy.corp:99999", "http://a..b:3128"],
)
async def test_a_proxy_that_cannot_be_used_is_named(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    async with asyncio.timeout(10):
        with pytest.raises(SettingsError, match="the proxy of the environment cannot be used"):
            async with SgapsClient(config_of("ws://192.0.2.1:8000/ws/stream")):
                pass


@pytest.mark.parametrize(
    ("proxy", "is_it"),
    [
        ("", True),
        ("http://proxy.corp:3128", True),
        ("http://proxy.corp:99999", False),
        ("http://[::1:3128", False),
        ("http://a..b:3128", False),
        ("proxy.corp:3128", False),
    ],
)
def test_a_readable_proxy_has_an_address(
    proxy: str, is_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    assert is_proxy_readable("wss://192.0.2.1/ws/stream") == is_it


async def test_the_password_of_a_proxy_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "socks://me:secret@proxy:1")
    async with asyncio.timeout(10):
        with pytest.raises(SettingsError, match=r"\(socks://proxy:1 ") as caught:
            async with SgapsClient(config_of("ws://192.0.2.1:8000/ws/stream")):
                pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://192.0.2.1:1"])
def test_a_token_that_no_header_carries_is_not_taken_for_a_wrong_proxy(url: str) -> None:
    with pytest.raises(SettingsError, match="the token has other characters than ASCII"):
        http_client(httpx.Client, url, token="sésame", timeout_secs=1)  # noqa: S106


@pytest.mark.parametrize("token", ["secret\n", " secret", "sec ret", "secret\t", "sec\x00ret"])
def test_a_token_with_blanks_is_refused_and_not_told(token: str) -> None:
    """The library would quote it."""
    with pytest.raises(SettingsError, match="the token has blanks or control characters") as caught:
        http_client(httpx.Client, "http://127.0.0.1:1", token=token, timeout_secs=1)
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"checkpoint_key": "my game"}, "checkpoint_key"),
        ({"width": 0}, "width"),
        ({"height": 10_000}, "height"),
        ({"state_dim": 5000}, "state_dim"),
    ],
)
def test_what_no_server_takes_is_refused_at_once(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{named}: "):
        replace(config_of("ws://127.0.0.1:1/ws/stream"), **changes)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://host:8000/", "does not begin with ws:// or wss://"),
        ("127.0.0.1:8000", "does not begin with ws:// or wss://"),
        ("", "does not begin with ws:// or wss://"),
        ("ws://", "names no host"),
        ("ws:///ws/stream", "names no host"),
        ("ws://host:8000", "has no path"),
        ("ws://host:8000/", "has no path"),
        ("ws://host:99999/ws/stream", "is no address"),
        ("ws://[::1/ws/stream", "is no address"),
        ("ws://a..b/ws/stream", "is no address"),
        ("ws://host/ws/stream#x", "is no address"),
    ],
)
def test_a_wrong_address_is_named_where_the_config_is_made(url: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        config_of(url)
    assert "ws://127.0.0.1:8000/ws/stream" in str(caught.value)


@pytest.mark.parametrize("url", ["ws://[::1]:8000/ws/stream", "wss://play.example/games/ws/stream"])
def test_a_right_address_is_taken(url: str) -> None:
    assert config_of(url).url == url


@pytest.mark.parametrize(
    ("url", "is_it"),
    [
        ("ws://127.0.0.1:8000/ws/stream", True),
        ("ws://127.8.8.8/ws/stream", True),
        ("wss://LOCALHOST/ws/stream", True),
        ("http://[::1]:8000", True),
        ("http://play.localhost", True),
        ("ws://127.0.0.1.example/ws/stream", False),
        ("ws://localhost.example/ws/stream", False),
        ("ws://notlocalhost/ws/stream", False),
        ("ws://192.0.2.1/ws/stream", False),
        ("ws://[/ws/stream", False),
    ],
)
def test_the_addresses_of_this_machine(url: str, is_it: bool) -> None:
    assert is_loopback(url) == is_it


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("ws://[::1]:8000/ws/stream", "http://[::1]:8000"),
        ("wss://play.example/games/ws/stream", "https://play.example/games"),
        ("wss://play.example/ws/stream?room=1", "https://play.example"),
        ("wss://play.example/elsewhere", "https://play.example"),
    ],
)
def test_pictures_are_asked_for_beside_the_socket(url: str, base: str) -> None:
    assert http_url(url) == base


def test_no_password_is_shown() -> None:
    assert shown("ws://me:secret@host:1/ws/stream") == "ws://host:1/ws/stream"
    assert shown("me:secret@host") == "host"
    assert shown("ws://host/ws/stream") == "ws://host/ws/stream"


async def test_where_nobody_listens_the_cure_is_named_until_somebody_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = ScriptedGateway()
    async with gateway.running():
        pass  # nobody answers at this port any more
    client = SgapsClient(config_of(gateway.url))
    starting = asyncio.create_task(client.__aenter__())
    await eventually(lambda: len(caplog.messages) > 1)
    async with gateway.running():
        await asyncio.wait_for(starting, 5)
        await client.__aexit__(None, None, None)
    told = caplog.messages[0]
    assert told.startswith(f"no connection to {gateway.url} (")
    assert f"`sgaps up`, or `sgaps doctor --url http://127.0.0.1:{gateway.port}`" in told
    assert not any("connection lost" in message for message in caplog.messages)


async def test_a_server_without_the_socket_ends_the_client() -> None:
    async with answering(HTTPStatus.NOT_FOUND) as url:
        with pytest.raises(SettingsError, match="/ws/stream"):
            await asyncio.wait_for(SgapsClient(config_of(url)).__aenter__(), 5)


async def test_a_server_that_leads_to_a_page_ends_the_client() -> None:
    async with answering(HTTPStatus.MOVED_PERMANENTLY) as url:
        with pytest.raises(SettingsError, match=r"redirected to https://login.example/: .*wss://"):
            await asyncio.wait_for(SgapsClient(config_of(url)).__aenter__(), 5)


@pytest.mark.parametrize(
    "location", ["ws://a..b/ws/stream", "ws://127.0.0.1:99999/ws/stream", "ws://[::1/ws/stream"]
)
async def test_a_redirect_to_no_address_is_tried_again(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(HTTPStatus.FOUND, location=location) as url:
        starting = asyncio.create_task(SgapsClient(config_of(url)).__aenter__())
        await eventually(lambda: len(caplog.messages) > 1 or starting.done())
        starting.cancel()
        await asyncio.wait({starting})
    assert starting.cancelled()
    assert caplog.messages[0].startswith(f"no connection to {url} (redirected to no address: ")


async def test_a_redirect_to_no_address_is_not_taken_for_a_wrong_proxy(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")  # a way through the proxy
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: ws://[::1/ws/stream\r\n\r\n")
        writer.close()

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        client = SgapsClient(config_of("ws://192.0.2.1:8000/ws/stream"))
        starting = asyncio.create_task(client.__aenter__())
        await eventually(lambda: len(caplog.messages) > 1 or starting.done())
        starting.cancel()
        await asyncio.wait({starting})
    assert starting.cancelled()
    assert "redirected to no address" in caplog.messages[0]


@pytest.mark.parametrize(
    ("status", "told"), [(HTTPStatus.NOT_FOUND, "404"), (HTTPStatus.FOUND, "connection lost")]
)
async def test_who_had_a_session_waits_for_its_socket(
    status: HTTPStatus, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy says 404, or shows a page, while the gateway behind it restarts."""
    gateway = ScriptedGateway()
    async with gateway.running():
        client = SgapsClient(config_of(gateway.url), wait_secs=0)
        await client.__aenter__()
    async with answering(status, gateway.port):
        caplog.clear()
        await eventually(lambda: any(told in message for message in caplog.messages))
        assert "secret" not in caplog.text
    async with gateway.running():
        await eventually(lambda: client.state.account.resumed == 1)
        await client.__aexit__(None, None, None)


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
async def test_a_refused_handshake_names_path_and_token_and_is_tried_again(
    status: HTTPStatus, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(status) as url:
        starting = asyncio.create_task(SgapsClient(config_of(url)).__aenter__())
        await eventually(lambda: len(caplog.messages) > 1)
        starting.cancel()
        await asyncio.wait({starting})
    assert "/ws/stream" in caplog.messages[0]
    assert "token" in caplog.messages[0]


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        (None, "is a gateway there?"),
        (HTTPStatus.FORBIDDEN, "is the token right?"),
        (HTTPStatus.BAD_GATEWAY, "sgaps doctor --url"),
    ],
)
async def test_where_no_session_begins_in_time_the_last_reason_is_raised(
    status: HTTPStatus | None, cure: str
) -> None:
    async with answering(status or HTTPStatus.OK) as url:
        if status is not None:
            await gives_up(url, cure)
    if status is None:  # nobody answers at this port any more
        await gives_up(url, cure)


@pytest.mark.parametrize(
    ("scheme", "cure"), [("ws", "is a gateway there?"), ("wss", "ws:// instead of wss://?")]
)
async def test_what_speaks_another_protocol_is_given_up_too(scheme: str, cure: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK ready\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await gives_up(f"{scheme}://127.0.0.1:{port}/ws/stream", cure)


async def gives_up(url: str, cure: str) -> None:
    with pytest.raises(NoSession, match=r"^no session within 0\.1 s: ") as caught:
        await asyncio.wait_for(SgapsClient(config_of(url), wait_secs=0.1).__aenter__(), 15)
    assert cure in str(caught.value)
    assert shown(url) in str(caught.value)


async def test_a_server_that_is_full_for_too_long_is_named_as_such() -> None:
    full = Error(code="too_many_sessions", message="full", fatal=True, retry_after_secs=60)
    gateway = ScriptedGateway(refuse_starts=[full])
    async with gateway.running():
        client = SgapsClient(config_of(gateway.url), wait_secs=30)
        with pytest.raises(NoSession, match=r"within 30 s: .*too_many_sessions: full"):
            await asyncio.wait_for(client.__aenter__(), 15)


def test_a_lost_connection_is_told_as_one() -> None:
    told = told_loss(ConnectionResetError("cut"), "ws://h/ws/stream", had_session=True)
    assert told == "connection lost (cut)"
    assert "TimeoutError" in told_loss(TimeoutError(), "ws://h/ws/stream", had_session=True)
