"""`python -m gateway`: the WebSocket gateway and HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.certificate import Certificate
from gateway.delivery import GROUP
from gateway.requests import HttpProtocol
from gateway.session import SessionManager
from gateway.shared import Gateway
from gateway.transport import SocketProtocol
from sgaps.bus import trim_behind
from sgaps.errors import SettingsError
from sgaps.open_files import allow_most_open_files
from sgaps.service import Service, run_service, together
from sgaps.settings import ServerSettings, Settings

GOODBYE_SECS = 0.2
"""For the sockets to write that the gateway is going."""


async def main(service: Service) -> None:
    """Serve until told to stop. Raises SettingsError."""
    allow_most_open_files()  # every connection takes one, and there may be 1,320 by default
    app = create_app(service.settings, service.bus)
    gateway: Gateway = app.state.gateway
    deliverer = gateway.deliverer
    service.describe = lambda: {
        "sessions": gateway.sessions.connected_count,
        "gateway_id": service.settings.server.gateway_id,
    }
    service.watch(deliverer.consumer)
    delivers = service.readiness
    service.readiness = lambda: delivers() or gateway.outlook.twins.why
    configuration = _configuration(app, service.settings.server)
    server = _Server(configuration)
    # One that fails ends them all, and the process: whoever started it starts it again.
    await together(
        service.stop,
        deliverer.consumer.run(service.stop),
        trim_behind(service.bus, deliverer.stream, GROUP, service.stop),
        gateway.outlook.run(service.stop),
        gateway.sessions.run(service.stop),
        gateway.probe.run(service.stop),
        _renew(configuration, service.settings.server, service.stop),
        _stop_with(service.stop, server, gateway.sessions),
        _serve(server, service.stop),
    )


def check(settings: Settings) -> None:
    """Refuse what could not be served, before anything is waited for. Raises SettingsError."""
    settings.server.token()
    _configuration(FastAPI(), settings.server)


def _configuration(app: FastAPI, server: ServerSettings) -> uvicorn.Config:
    """Raises SettingsError where the certificate cannot be used."""
    configuration = uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        log_config=None,  # its lines take our form
        log_level="error",  # what clients do wrong is counted, not told line by line
        http=HttpProtocol,
        ws=SocketProtocol,
        ws_max_size=server.max_message_bytes,
        ws_ping_interval=server.ping_interval_secs,
        ws_ping_timeout=server.client_timeout_secs,
        ws_per_message_deflate=False,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=list(server.trusted_proxies),
        ssl_certfile=server.tls_certificate,
        ssl_keyfile=server.tls_key,
        timeout_graceful_shutdown=3,
    )
    try:
        configuration.load()
    except OSError as error:  # ssl.SSLError is one too
        raise SettingsError(
            f"server.tls_certificate {server.tls_certificate} and server.tls_key "
            f"{server.tls_key} cannot be used: {error}"
        ) from error
    return configuration


class _Server(uvicorn.Server):
    """Leaves the signals to the service frame, which stops everything in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _renew(
    configuration: uvicorn.Config, server: ServerSettings, stop: asyncio.Event
) -> None:
    if configuration.ssl and server.tls_certificate and server.tls_key:
        files = server.tls_certificate, server.tls_key
        await Certificate(configuration.ssl, files, lambda: _tls(server)).run(stop)


def _tls(server: ServerSettings) -> ssl.SSLContext:
    """Raises SettingsError where the certificate cannot be used."""
    context = _configuration(FastAPI(), server).ssl
    if context is None:
        raise SettingsError("server.tls_certificate is not set")
    return context


async def _serve(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await server.serve()
    stop.set()


async def _stop_with(stop: asyncio.Event, server: uvicorn.Server, sessions: SessionManager) -> None:
    await stop.wait()
    if sessions.say_goodbye():
        await asyncio.sleep(GOODBYE_SECS)
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(run_service("gateway", main, check=check))
