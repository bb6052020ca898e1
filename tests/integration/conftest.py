"""A gateway as it is deployed: uvicorn on a loopback port, a real broker behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from gateway.__main__ import main
from ports import free_port
from sgaps.bus import Bus, RedisBus
from sgaps.service import Service
from sgaps.settings import Settings
from sgaps_cli.broker import is_listening
from waiting import eventually


@dataclass(frozen=True, kw_only=True)
class RunningGateway:
    port: int
    bus: Bus
    settings: Settings
    stop: asyncio.Event

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/stream"

    def connect(self, **headers: str) -> connect:
        return connect(self.ws_url, max_size=None, additional_headers=headers)


def with_changes(settings: Settings, **sections: Mapping[str, object]) -> Settings:
    """Settings with fields of some sections changed, checked again."""
    data = settings.model_dump()
    for section, fields in sections.items():
        data[section] |= fields
    return Settings.model_validate(data)


@asynccontextmanager
async def running_gateway(
    settings: Settings, bus_class: type[RedisBus] = RedisBus
) -> AsyncIterator[RunningGateway]:
    stop = asyncio.Event()
    bus = bus_class(settings.bus)
    service = Service(name="gateway", settings=settings, bus=bus, stop=stop)
    serving = asyncio.create_task(main(service))
    while not is_listening(settings.server.port):
        await asyncio.sleep(0.02)
        assert not serving.done(), serving.result()
    try:
        yield RunningGateway(port=settings.server.port, bus=bus, settings=settings, stop=stop)
    finally:
        stop.set()
        await serving
        await bus.close()


@pytest.fixture
async def clean_broker(broker_url: str) -> str:
    async with Redis.from_url(broker_url) as redis:
        await redis.flushall()
    return broker_url


@pytest.fixture
def gateway_settings(settings: Settings, clean_broker: str) -> Settings:
    return with_changes(
        settings,
        bus={"url": clean_broker, "block_secs": 0.2},
        server={
            "port": free_port(),
            "probe_interval_secs": 0,  # these tests count what is on the streams
        },
    )


@pytest.fixture
async def gateway(gateway_settings: Settings) -> AsyncIterator[RunningGateway]:
    async with running_gateway(gateway_settings) as running:
        yield running


__all__ = ["ClientConnection", "RunningGateway", "eventually", "running_gateway", "with_changes"]
