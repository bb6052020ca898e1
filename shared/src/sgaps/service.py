"""What every service does around its loop: settings, logging, signals, broker, heartbeat."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sgaps.bus import Bus, Put, RedisBus
from sgaps.errors import BusError, SettingsError
from sgaps.metrics import serve_metrics
from sgaps.settings import Settings, load_settings

log = logging.getLogger(__name__)

HEARTBEAT_PREFIX = "sgaps:heartbeat:"
HEARTBEAT_SECS = 1.0
HEARTBEAT_TTL_SECS = 6.0
BROKER_RETRY_SECS = 0.5

Status: TypeAlias = dict[str, object]


@dataclass
class Service:
    """What a service's main coroutine is given."""

    name: str
    settings: Settings
    bus: Bus
    stop: asyncio.Event
    describe: Callable[[], Status] = field(default=dict)
    """What the heartbeat tells about this process; a service sets its own."""

    @property
    def consumer_name(self) -> str:
        """Stable over a restart, so that a process finds what it left unfinished."""
        return f"{self.name}-{self.settings.instance}"


Main: TypeAlias = Callable[[Service], Awaitable[None]]


def run_service(name: str, main: Main, argv: Sequence[str] | None = None) -> int:
    """Run a service until SIGINT or SIGTERM; the exit status of the process."""
    arguments = _parser(name).parse_args(argv)
    try:
        settings = load_settings(arguments.overrides)
    except SettingsError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    logging.basicConfig(
        level=settings.log_level,
        format=f"%(asctime)s %(levelname)-7s {name} %(name)s: %(message)s",
    )
    serve_metrics(settings.metrics_host, settings.metrics_port)
    try:
        asyncio.run(_run(name, main, settings))
    except SettingsError as error:  # a value that only the service itself can check
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=f"The {name} service of SGAPS-MAE.",
        epilog=f"example: python -m {name} bus.url=redis://localhost:6379/0 log_level=DEBUG",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings of conf/ to override"
    )
    return parser


async def _run(name: str, main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    service = Service(name=name, settings=settings, bus=RedisBus(settings.bus), stop=stop)
    await wait_for_broker(service.bus, settings.bus.url, stop)
    heart = asyncio.create_task(_beat(service))
    try:
        if not stop.is_set():
            log.info("%s starts", service.consumer_name)
            await main(service)
    finally:
        heart.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await heart
        await service.bus.close()
        log.info("%s stopped", service.consumer_name)


async def wait_for_broker(bus: Bus, url: str, stop: asyncio.Event) -> None:
    """Return when the broker answers, or when told to stop."""
    told = False
    while not stop.is_set():
        try:
            await bus.ping()
        except BusError as error:
            if not told:
                # The URL may hold a password; only what follows it is shown.
                log.warning(
                    "waiting for the broker at %s: %s", url.rsplit("@", maxsplit=1)[-1], error
                )
            told = True
            await asyncio.sleep(BROKER_RETRY_SECS)
        else:
            return


def heartbeat_key(service_name: str, instance: str) -> str:
    return f"{HEARTBEAT_PREFIX}{service_name}:{instance}"


async def _beat(service: Service) -> None:
    key = heartbeat_key(service.name, service.settings.instance)
    started_at_secs = time.time()
    while True:
        fields = {
            "at_secs": repr(time.time()).encode(),
            "started_at_secs": repr(started_at_secs).encode(),
            "status": json.dumps(service.describe()).encode(),
        }
        with contextlib.suppress(BusError):
            await service.bus.write(Put(key, fields, HEARTBEAT_TTL_SECS))
        await asyncio.sleep(HEARTBEAT_SECS)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A live process, as its heartbeat tells it."""

    service: str
    instance: str
    at_secs: float
    started_at_secs: float
    status: Status
    ready: bool = True
    """Whether it does its work now."""
    reason: str = ""
    """Why not."""


async def live_services(bus: Bus) -> list[Heartbeat]:
    """Every process whose heartbeat is fresh. Raises BusError."""
    keys = await bus.keys(HEARTBEAT_PREFIX)
    hashes = await bus.hashes(keys) if keys else []
    return [_heartbeat(key, fields) for key, fields in zip(keys, hashes, strict=True) if fields]


def _heartbeat(key: str, fields: dict[str, bytes]) -> Heartbeat:
    service, _, instance = key.removeprefix(HEARTBEAT_PREFIX).partition(":")
    return Heartbeat(
        service=service,
        instance=instance,
        at_secs=float(fields["at_secs"]),
        started_at_secs=float(fields["started_at_secs"]),
        status=json.loads(fields["status"]),
    )
