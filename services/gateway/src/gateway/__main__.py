"""`python -m gateway`: the WebSocket gateway and HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import uvicorn

from gateway.app import create_app
from gateway.delivery import GROUP, Deliverer
from gateway.session import SessionManager
from sgaps.bus import trim_behind
from sgaps.service import Service, run_service

GOODBYE_SECS = 0.2
"""For the sockets to write that the gateway is going."""
MESSAGES_QUEUED = 4
TRANSPORT_LIMIT_FACTOR = 4
"""Beyond the limit that gets a typed error, the transport cuts the message off unread."""


async def main(service: Service) -> None:
    settings = service.settings
    app = create_app(settings, service.bus)
    gateway = app.state.gateway
    deliverer = Deliverer(
        service.bus,
        gateway.sessions,
        gateway_id=settings.server.gateway_id,
        settings=settings.bus,
    )
    service.describe = lambda: {"sessions": gateway.sessions.connected_count}
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.server.host,
            port=settings.server.port,
            log_level="warning",
            ws="websockets-sansio",
            ws_max_size=settings.server.max_message_bytes * TRANSPORT_LIMIT_FACTOR,
            ws_max_queue=MESSAGES_QUEUED,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=3,
        )
    )
    delivering = asyncio.create_task(deliverer.consumer.run(service.stop))
    trimming = asyncio.create_task(trim_behind(service.bus, deliverer.stream, GROUP, service.stop))
    stopping = asyncio.create_task(_stop_with(service.stop, server, gateway.sessions))
    await server.serve()
    service.stop.set()
    await asyncio.gather(delivering, trimming, stopping)


class _Server(uvicorn.Server):
    """Leaves the signals to the service frame, which stops everything in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _stop_with(stop: asyncio.Event, server: uvicorn.Server, sessions: SessionManager) -> None:
    await stop.wait()
    if sessions.say_goodbye():
        await asyncio.sleep(GOODBYE_SECS)
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(run_service("gateway", main))
