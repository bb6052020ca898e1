"""Who gets in: tokens, origins, addresses, and what a gateway refuses to start with."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from gateway import __main__ as gateway_main
from gateway import certificate as certificates
from gateway.access import address_of, bearer_token, is_safe_host
from integration.conftest import RunningGateway, running_gateway, with_changes
from integration.talk import START, receive, refusal, start
from sgaps.errors import SettingsError
from sgaps.service import run_service
from sgaps.settings import Settings, load_settings
from tools import require_tool
from waiting import eventually

TOKEN = "a-secret"  # noqa: S105
GUARDED = (
    "/api/status",
    "/api/sessions",
    "/api/sessions/x",
    "/api/sessions/x/reconstruction.png",
    "/api/sessions/x/importance.png",
    "/api/checkpoints",
    "/metrics",
)
OPEN = ("/", "/api/health", "/api/ready")


@pytest.fixture
def with_token(gateway_settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return with_changes(gateway_settings, server={"auth_token_file": file})


async def test_a_token_opens_a_session_in_the_message_or_in_the_header(
    with_token: Settings,
) -> None:
    async with running_gateway(with_token) as gateway:
        async with gateway.connect() as socket:
            assert (await refusal(socket, START))["code"] == "unauthorized"
        async with gateway.connect(Authorization="Bearer wrong") as socket:
            wrong = {**START, "auth_token": "\u00e4"}
            assert (await refusal(socket, wrong))["code"] == "unauthorized"
        async with gateway.connect() as socket:
            assert (await start(socket, auth_token=TOKEN))["type"] == "session_start_ack"
        async with gateway.connect(Authorization=f"Bearer {TOKEN}") as socket:
            assert (await start(socket))["type"] == "session_start_ack"


async def test_what_tells_about_sessions_needs_the_token(with_token: Settings) -> None:
    async with (
        running_gateway(with_token) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url) as http,
    ):
        for path in GUARDED:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                reply = await http.get(path, headers=headers)
                assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert "token" in reply.json()["detail"]
            reply = await http.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
            assert reply.status_code in {200, 404}
        assert {(await http.get(path)).status_code for path in OPEN} <= {200, 503}


async def test_without_a_token_no_name_of_a_stranger_reads_anything(
    gateway_settings: Settings,
) -> None:
    """A page of a name that was pointed at this machine is of the gateway's origin."""
    ours = "https://game.example"
    settings = with_changes(gateway_settings, server={"allowed_origins": [ours]})
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url) as http,
    ):
        for path in GUARDED:
            reply = await http.get(path, headers={"Host": "evil.example:8000"})
            assert reply.status_code == 403
            for cure in ("server.auth_token_file", "server.allowed_origins", "evil.example:8000"):
                assert cure in reply.json()["detail"]
            for host in (f"localhost:{gateway.port}", "game.example", "192.0.2.1:8000"):
                reply = await http.get(path, headers={"Host": host})
                assert reply.status_code in {200, 404}
        for path in OPEN:
            reply = await http.get(path, headers={"Host": "evil.example:8000"})
            assert reply.status_code in {200, 503}


async def test_with_a_token_every_name_will_do(with_token: Settings) -> None:
    headers = {"Host": "gateway:8000", "Authorization": f"Bearer {TOKEN}"}
    async with (
        running_gateway(with_token) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url) as http,
    ):
        assert (await http.get("/api/status", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_safe"),
    [
        ("localhost", True),
        ("LocalHost:8000", True),
        ("127.8.8.8:1", True),
        ("[::1]:8000", True),
        ("game.example:8000", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8000", False),
        ("sub.game.example", False),
        ("[::1", False),
        ("game.example.", False),
    ],
)
def test_hosts_that_no_stranger_has_a_page_at(host: str, is_safe: bool) -> None:
    assert is_safe_host(host, ["null", "https://game.example"]) is is_safe


async def test_every_route_that_tells_something_is_guarded(gateway: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    unguarded = {path for path, methods in paths.items() if "security" not in methods["get"]}
    assert unguarded == {"/api/health", "/api/ready"}


async def test_a_page_of_another_address_may_come_where_it_is_named(
    gateway_settings: Settings,
) -> None:
    ours = "https://game.example"
    settings = with_changes(gateway_settings, server={"allowed_origins": [ours]})
    async with running_gateway(settings) as gateway, httpx.AsyncClient() as http:
        for origin, code in {ours: None, "https://other.example": "origin_refused"}.items():
            async with gateway.connect(Origin=origin) as socket:
                first = await receive(socket) if code else await start(socket)
                assert first.get("code") == code
            reply = await http.get(f"{gateway.http_url}/api/health", headers={"Origin": origin})
            allowed = reply.headers.get("access-control-allow-origin")
            assert allowed == (None if code else origin)


async def test_compression_is_never_agreed_on(gateway: RunningGateway) -> None:
    """The client of the tests offers it."""
    async with gateway.connect() as socket:
        assert socket.request is not None
        assert "permessage-deflate" in socket.request.headers["Sec-WebSocket-Extensions"]
        assert socket.protocol.extensions == []


@pytest.mark.parametrize(
    ("origin", "cure"),
    [
        ("http://localhost:3000", None),
        ("https://evil.example", "server.allowed_origins"),
        ("null", "opened from disk"),
    ],
)
async def test_browsers_may_come_from_localhost_only(
    gateway: RunningGateway, origin: str, cure: str | None
) -> None:
    allowed = cure is None
    async with gateway.connect(Origin=origin) as socket, httpx.AsyncClient() as http:
        first = await start(socket) if allowed else await receive(socket)
        reply = await http.get(f"{gateway.http_url}/api/health", headers={"Origin": origin})
    assert first.get("code") == (None if allowed else "origin_refused")
    assert (cure or "") in first.get("message", "")
    assert reply.headers.get("access-control-allow-origin") == (origin if allowed else None)


@pytest.mark.parametrize("token", ["", TOKEN])
async def test_in_production_only_its_own_pages_may_come(
    gateway_settings: Settings, token: str
) -> None:
    changes: dict[str, object] = {"environment": "production", "auth_token": token}
    settings = with_changes(gateway_settings, server=changes)
    async with running_gateway(settings) as gateway:
        async with gateway.connect(Origin=gateway.http_url) as socket:
            assert (await start(socket, auth_token=token))["type"] == "session_start_ack"
        for stranger in ("http://localhost:3000", "https://evil.example", "http://[", "null"):
            async with gateway.connect(Origin=stranger) as socket:
                assert (await receive(socket))["code"] == "origin_refused"


@pytest.mark.parametrize("token", ["", TOKEN])
async def test_a_page_of_a_name_pointed_at_this_machine_needs_the_token(
    gateway_settings: Settings, token: str
) -> None:
    settings = with_changes(gateway_settings, server={"auth_token": token})
    async with running_gateway(settings) as gateway:
        name = f"evil.example:{gateway.port}"
        headers = {"Origin": f"http://{name}"}
        url, address = gateway.ws_url.replace(f"127.0.0.1:{gateway.port}", name), "127.0.0.1"
        async with connect(
            url, host=address, port=gateway.port, additional_headers=headers
        ) as socket:
            if token:
                assert (await refusal(socket, START))["code"] == "unauthorized"
            else:
                assert (await receive(socket))["code"] == "origin_refused"


async def test_a_full_gateway_takes_no_more_sessions(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, server={"max_sessions": 1})
    async with running_gateway(settings) as gateway:
        async with gateway.connect() as first, gateway.connect() as second:
            await start(first)
            assert (await refusal(second, START))["code"] == "too_many_sessions"

        async def free() -> bool:
            async with gateway.connect() as third:
                return bool((await start(third))["type"] == "session_start_ack")

        await eventually(free)


async def test_a_resumed_session_needs_a_place_unless_it_still_has_one(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, server={"max_sessions": 1})
    async with running_gateway(settings) as gateway:
        async with gateway.connect() as socket:
            first_id = (await start(socket))["session_id"]

        async def is_free() -> bool:
            async with httpx.AsyncClient(base_url=gateway.http_url) as http:
                return bool((await http.get("/api/status")).json()["active_sessions"] == 0)

        await eventually(is_free)
        async with gateway.connect() as second, gateway.connect() as back:
            second_id = (await start(second))["session_id"]
            error = await refusal(back, {**START, "resume_session_id": first_id})
            assert (error["code"], error["retry_after_secs"]) == ("too_many_sessions", 1)
            async with gateway.connect() as taking_over:
                ack = await start(taking_over, resume_session_id=second_id)
                assert ack["resumed"] is True

        async def resumed() -> bool:
            async with gateway.connect() as socket:
                ack = await start(socket, resume_session_id=first_id)
                return bool(ack.get("resumed"))

        await eventually(resumed)


async def test_one_address_may_leave_only_so_many_sessions_behind(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, server={"max_sessions_per_address": 2})
    async with running_gateway(settings) as gateway:
        for _ in range(2):
            async with gateway.connect() as socket:
                session_id = (await start(socket))["session_id"]
        async with gateway.connect() as socket:
            error = await refusal(socket, START)
        async with gateway.connect() as socket:
            resumed = await start(socket, resume_session_id=session_id)
        assert (len(await gateway.bus.keys("sgaps:session:")), resumed["resumed"]) == (2, True)
    assert (error["code"], error["retry_after_secs"]) == ("too_many_sessions", 60)


async def test_a_trusted_proxy_tells_where_a_client_comes_from(
    gateway_settings: Settings,
) -> None:
    limits = {"max_sessions_per_address": 1}
    for trusted, code in (["127.0.0.1"], None), ([], "too_many_sessions"):
        server = {**limits, "trusted_proxies": trusted}
        async with running_gateway(with_changes(gateway_settings, server=server)) as gateway:
            for client in ("192.0.2.1", "192.0.2.2"):
                async with gateway.connect(**{"X-Forwarded-For": client}) as socket:
                    answer = await start(socket)
        assert answer.get("code") == code


async def test_only_so_many_connections_wait_for_their_session(
    gateway_settings: Settings,
) -> None:
    limits = {"max_waiting": 3, "max_waiting_per_address": 2, "session_start_timeout_secs": 5}
    settings = with_changes(gateway_settings, server=limits)
    async with running_gateway(settings) as gateway, gateway.connect() as playing:
        await start(playing)
        async with gateway.connect() as waiting, gateway.connect(), gateway.connect() as third:
            error = await receive(third)
            await start(waiting)
            async with gateway.connect() as fourth:
                await start(fourth)
    assert (error["code"], error["fatal"]) == ("too_many_sessions", True)
    assert "your address" in error["message"]


def test_addresses() -> None:
    assert address_of("192.0.2.7") == "192.0.2.7"
    assert address_of("2001:db8:1:2:3::4") == address_of("2001:db8:1:2:ffff::") != "2001:db8:1:2::"
    assert address_of("2001:db8:1:3::4") != address_of("2001:db8:1:2::4")
    assert address_of("") == ""


def test_an_ipv4_address_in_an_ipv6_one_is_that_address() -> None:
    """A socket that speaks both shows all IPv4 clients so: they would share one address."""
    assert address_of("::ffff:203.0.113.9") == "203.0.113.9" == address_of("203.0.113.9")
    assert address_of("::ffff:203.0.113.9") != address_of("::ffff:198.51.100.7")


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer a", "a"), ("bearer  a ", "a"), ("Basic a", None), ("", None), (None, None)],
)
def test_bearer_tokens(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104
def test_other_machines_reach_no_gateway_without_a_token(host: str, settings: Settings) -> None:
    reachable = with_changes(settings, server={"host": host})
    with pytest.raises(SettingsError, match=r"server\.auth_token_file .* 127\.0\.0\.1"):
        reachable.server.token()
    assert with_changes(reachable, server={"auth_token": TOKEN}).server.token() == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_does(host: str, settings: Settings) -> None:
    assert with_changes(settings, server={"host": host}).server.token() == ""


@pytest.mark.parametrize("content", [None, b"", b" \n", b"two words", b"\xff", b"x" * 1025])
def test_a_token_file_must_hold_a_token(
    content: bytes | None, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=str(file)):
        with_changes(settings, server={"auth_token_file": file}).server.token()


@pytest.mark.parametrize(
    "overrides",
    [
        ["server.auth_token=my-secret", "server.auth_token_file=/t"],
        ["server.auth_token=my secret"],
        ["server.auth_token=my-secret", "server.tls_key=/k"],
    ],
)
def test_a_wrong_setting_does_not_tell_the_token(overrides: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"auth_token|tls_key") as raised:
        load_settings(overrides, environment={})
    assert "secret" not in str(raised.value)


def test_a_gateway_that_may_not_start_says_so_in_one_line(
    restored_logging: None, capsys: pytest.CaptureFixture[str], clean_broker: str
) -> None:
    overrides = [f"bus.url={clean_broker}", "server.host=0.0.0.0"]
    assert run_service("gateway", gateway_main.main, overrides) == 2
    assert "gateway: server.host=0.0.0.0 can be reached" in capsys.readouterr().err


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """For 127.0.0.1, signed by itself; and its key."""
    require_tool("openssl", "openssl")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    sign(*files)
    return files


def sign(*files: Path, kind: Sequence[str] = ("rsa:2048",)) -> None:
    """Make a certificate and its key, new ones each time."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )


async def test_tls_by_certificate_files(
    gateway_settings: Settings, certificate: tuple[Path, Path]
) -> None:
    files = {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    settings = with_changes(gateway_settings, server=files)
    trust = ssl.create_default_context(cafile=certificate[0])
    async with running_gateway(settings) as gateway:
        url = f"wss://127.0.0.1:{gateway.port}/ws/stream"
        async with connect(url, ssl=trust) as socket, httpx.AsyncClient(verify=trust) as http:
            assert (await start(socket))["type"] == "session_start_ack"
            reply = await http.get(f"https://127.0.0.1:{gateway.port}/api/status")
        assert reply.json()["uptime_secs"] > 0
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(url)


async def test_a_renewed_certificate_is_shown_without_a_restart(
    gateway_settings: Settings,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the one of before, as long as only one of the two files is the new one. It has another
    kind of key, which a TLS library would keep beside the old one."""
    monkeypatch.setattr(certificates, "LOOK_EVERY_SECS", 0.05)
    caplog.set_level("INFO", "gateway.certificate")
    file, key = certificate
    sign(*certificate, kind=("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"))
    old, new_key = file.read_text(), key.with_suffix(".new")
    settings = with_changes(gateway_settings, server={"tls_certificate": file, "tls_key": key})
    async with running_gateway(settings) as gateway:

        async def shown() -> str:
            return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", gateway.port))

        async def told() -> bool:
            return len(caplog.messages) == 1

        sign(file, new_key)
        await eventually(told)
        assert "the certificate of before serves on: " in caplog.text
        assert f"{file} and server.tls_key {key} cannot be used" in caplog.text
        assert await shown() == old
        caplog.clear()
        new_key.replace(key)
        await eventually(told)
        assert f"new connections are shown the renewed {file}" in caplog.text
        assert await shown() == file.read_text() != old


async def test_a_certificate_that_cannot_be_used_is_named(
    gateway_settings: Settings, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing.pem"
    settings = with_changes(
        gateway_settings, server={"tls_certificate": nothing, "tls_key": certificate[1]}
    )
    with pytest.raises(SettingsError, match=str(nothing)):
        async with running_gateway(settings):
            pass
