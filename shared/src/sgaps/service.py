"""What every service does around its loop: settings, logging, signals, broker, heartbeat."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from sgaps.bus import Bus, Put, RedisBus
from sgaps.bus.connection import shown
from sgaps.errors import BusError, SettingsError, SgapsError
from sgaps.metrics import serve_metrics
from sgaps.settings import Settings, load_settings

log = logging.getLogger(__name__)

HEARTBEAT_PREFIX = "sgaps:heartbeat:"
HEARTBEAT_SECS = 1.0
HEARTBEAT_TTL_SECS = 6.0
BROKER_RETRY_SECS = 0.5
TURN_WITHIN_SECS = 10.0
"""A loop that turned no later than this ago is well; above the slowest usual batch."""
DRAIN_SECS = 8.0
"""To finish what is in hand; below the 10 s after which Docker kills."""

Status: TypeAlias = dict[str, object]


class Turning(Protocol):
    """A loop that notes when it turned, on the monotonic clock, and what it waits for."""

    @property
    def last_turn_at_secs(self) -> float: ...
    @property
    def waiting_for(self) -> str: ...


def turns_lately(loop: Turning) -> Callable[[], str]:
    """Readiness of a loop, from now on: it turned, and not long ago."""
    built_at_secs = loop.last_turn_at_secs

    def reason() -> str:
        if loop.waiting_for:
            return f"it waits: {loop.waiting_for}"
        if loop.last_turn_at_secs == built_at_secs:
            return "its loop has not turned yet"
        still_secs = time.monotonic() - loop.last_turn_at_secs
        return "" if still_secs < TURN_WITHIN_SECS else f"its loop stands for {still_secs:.0f} s"

    return reason


@dataclass
class Service:
    """What a service's main coroutine is given."""

    name: str
    settings: Settings
    bus: Bus
    stop: asyncio.Event
    describe: Callable[[], Status] = field(default=dict)
    """What the heartbeat tells about this process; a service sets its own."""
    readiness: Callable[[], str] = field(default=lambda: "it starts")
    """Why it cannot do its work now, or nothing; a service sets its own."""

    @property
    def consumer_name(self) -> str:
        """Stable over a restart, so that a process finds what it left unfinished."""
        return f"{self.name}-{self.settings.instance}"


Main: TypeAlias = Callable[[Service], Awaitable[None]]


def run_service(name: str, main: Main, argv: Sequence[str] | None = None) -> int:
    """Run a service until SIGINT or SIGTERM; the exit status of the process.

    2: a setting is wrong; 1: it cannot go on, and said why. A bug ends it with a traceback.
    """
    arguments = _parser(name).parse_args(argv)
    status = 0
    try:
        settings = load_settings(arguments.overrides)
        logging.basicConfig(
            level=settings.log_level,
            format=f"%(asctime)s %(levelname)-7s {name} %(name)s: %(message)s",
        )
        serve_metrics(settings.metrics_host, settings.metrics_port)
        with contextlib.ExitStack() as ended:
            asyncio.run(_run(name, main, settings, ended))
    except* SettingsError as errors:  # in a group, where a task of the service raised it
        sys.stderr.write(f"{name}: {_first(errors)}\n")
        status = 2
    except* SgapsError as errors:
        log.critical("%s ends: %s", name, _first(errors))
        status = 1
    return status


def _first(errors: BaseExceptionGroup[SgapsError]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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


async def _run(name: str, main: Main, settings: Settings, ended: contextlib.ExitStack) -> None:
    stop = asyncio.Event()
    _listen_to_signals(stop, ended)
    alive = asyncio.create_task(_show_life(settings.alive_file))
    bus_settings = settings.bus.model_copy(update={"client_name": f"{name}-{settings.instance}"})
    service = Service(name=name, settings=settings, bus=RedisBus(bus_settings), stop=stop)
    await wait_for_broker(service.bus, shown(settings.bus.url), stop)
    heart = asyncio.create_task(_beat(service))
    try:
        if not stop.is_set():
            log.info("%s starts", service.consumer_name)
            await main(service)
    finally:
        _end_within(DRAIN_SECS, ended)  # of which a part is over already if it was told to stop
        for beating in (heart, alive):
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
        await service.bus.close()
        log.info("%s stopped", service.consumer_name)


def _listen_to_signals(stop: asyncio.Event, ended: contextlib.ExitStack) -> None:
    """The first signal asks the service to finish, in bounded time; a second one ends it."""
    loop = asyncio.get_running_loop()

    def stop_or_end(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("told twice to stop: ends at once")
            os._exit(128 + number)
        stop.set()
        _end_within(DRAIN_SECS, ended)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_or_end, number)


def _end_within(timeout_secs: float, ended: contextlib.ExitStack) -> None:
    """End this process when the time is over, whatever hangs; what is unfinished stays pending.

    A thread does it, because it may be the event loop that hangs. Closing `ended` calls it off.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        unfinished = ", ".join(sorted(_where(task.get_coro()) for task in asyncio.all_tasks(loop)))
        log.error(
            "not finished after %g s, ends now; still at: %s",
            timeout_secs,
            unfinished or "a thread",
        )
        os._exit(1)

    timer = threading.Timer(timeout_secs, end)
    timer.daemon = True
    timer.start()
    ended.callback(timer.cancel)


def _where(coroutine: object) -> str:
    """The coroutines that wait for one another, from the outermost."""
    name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
    inner = getattr(coroutine, "cr_await", None)
    return f"{name} > {_where(inner)}" if hasattr(inner, "cr_await") else name


async def wait_for_broker(bus: Bus, url: str, stop: asyncio.Event) -> None:
    """Return when the broker answers, or when told to stop. Each kind of trouble is told once."""
    told: set[type[BusError]] = set()
    while not stop.is_set():
        try:
            await bus.ping()
        except BusError as error:
            if type(error) not in told:
                log.warning("waiting for the broker at %s: %s", url, error)
            told.add(type(error))
            await asyncio.sleep(BROKER_RETRY_SECS)
        else:
            return


def heartbeat_key(service_name: str, instance: str) -> str:
    return f"{HEARTBEAT_PREFIX}{service_name}:{instance}"


async def _beat(service: Service) -> None:
    key = heartbeat_key(service.name, service.settings.instance)
    started_at_secs = time.time()
    while True:
        reason = "it stops" if service.stop.is_set() else service.readiness()
        fields = {
            "at_secs": repr(time.time()).encode(),
            "started_at_secs": repr(started_at_secs).encode(),
            "status": json.dumps(service.describe()).encode(),
            "ready": b"0" if reason else b"1",
            "reason": reason.encode(),
        }
        with contextlib.suppress(BusError):
            await service.bus.write(Put(key, fields, HEARTBEAT_TTL_SECS))
        await asyncio.sleep(HEARTBEAT_SECS)


async def _show_life(file: Path | None) -> None:
    """Touch a file while the event loop turns, whatever the broker does."""
    while file is not None:
        try:
            file.touch()
        except OSError as error:
            log.error("alive_file %s cannot be touched: %s", file, error)  # noqa: TRY400 - it says all
        await asyncio.sleep(HEARTBEAT_SECS)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A live process, as its heartbeat tells it."""

    service: str
    instance: str
    at_secs: float
    started_at_secs: float
    status: Status
    ready: bool
    reason: str
    """Why it is not ready; empty where it is."""


async def find_heartbeat(bus: Bus, service_name: str, instance: str) -> Heartbeat | None:
    """The heartbeat of one process, if it is fresh. Raises BusError."""
    key = heartbeat_key(service_name, instance)
    (fields,) = await bus.hashes([key])
    return _heartbeat(key, fields) if fields else None


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
        ready=fields.get("ready") == b"1",
        reason=fields.get("reason", b"").decode(),
    )
