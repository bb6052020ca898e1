"""What every service does around its loop: settings, logging, signals, broker, heartbeat."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from sgaps import logs, metrics, tracing
from sgaps.bus import Bus, Put, RedisBus
from sgaps.bus.connection import shown
from sgaps.ending import end_within, listen_to_signals
from sgaps.errors import BusError, BusFull, SettingsError, SgapsError
from sgaps.health import state_file, write_state
from sgaps.settings import Settings, load_settings

log = logging.getLogger(__name__)

HEARTBEAT_PREFIX = "sgaps:heartbeat:"
HEARTBEAT_SECS = 1.0
HEARTBEAT_TTL_SECS = 6.0
FIND_PAUSE = 20
"""Times as long as it took to find who is there, until they are looked for again."""
MAX_FIND_PAUSE_SECS = 10.0
BROKER_RETRY_SECS = 0.5
TURN_WITHIN_SECS = 10.0
"""A loop that turned no later than this ago is well; above the slowest usual batch."""
ALIVE_WITHIN_SECS = 60.0
"""A loop that stands longer than this, and waits for nothing, will not turn again by itself."""
DRAIN_SECS = 8.0
"""To finish what is in hand; below the 10 s after which Docker kills."""

Status: TypeAlias = dict[str, object]


class Turning(Protocol):
    """A loop that notes when it turned, on the monotonic clock, what it waits for, and whether all
    that it tries fails."""

    @property
    def last_turn_at_secs(self) -> float: ...
    @property
    def waiting_for(self) -> str: ...
    @property
    def fails_for_secs(self) -> float: ...


def turns_lately(loop: Turning) -> Callable[[], str]:
    """Readiness of a loop, from now on: it turned, and not long ago."""
    built_at_secs = loop.last_turn_at_secs

    def reason() -> str:
        if loop.waiting_for:
            return f"it waits: {loop.waiting_for}"
        if loop.last_turn_at_secs == built_at_secs:
            return "its loop has not turned yet"
        return _stands(loop, TURN_WITHIN_SECS) or _fails(loop, TURN_WITHIN_SECS)

    return reason


def turns_or_waits(loop: Turning) -> Callable[[], str]:
    """Liveness of a loop: who waits for a broker or for space is not helped by a new start."""

    def reason() -> str:
        if loop.waiting_for:
            return ""
        return _stands(loop, ALIVE_WITHIN_SECS) or _fails(loop, ALIVE_WITHIN_SECS)

    return reason


def _stands(loop: Turning, within_secs: float) -> str:
    still_secs = time.monotonic() - loop.last_turn_at_secs
    return "" if still_secs < within_secs else f"its loop stands for {still_secs:.0f} s"


def _fails(loop: Turning, within_secs: float) -> str:
    secs = loop.fails_for_secs
    return "" if secs < within_secs else f"all that it tried failed for {secs:.0f} s: see its log"


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
    liveness: Callable[[], str] = field(default=lambda: "")
    """Why only a new start can help it, or nothing."""

    def watch(self, loop: Turning) -> None:
        """Be ready and alive as this loop turns."""
        self.readiness, self.liveness = turns_lately(loop), turns_or_waits(loop)

    @property
    def consumer_name(self) -> str:
        """Stable over a restart, so that a process finds what it left unfinished."""
        return f"{self.name}-{self.settings.instance}"

    def why_not_ready(self) -> str:
        """What both its heartbeat and its metrics say; empty where it is ready."""
        return "it stops" if self.stop.is_set() else self.readiness()


Main: TypeAlias = Callable[[Service], Awaitable[None]]
Check: TypeAlias = Callable[[Settings], object]
"""Raises SettingsError."""


def run_service(
    name: str, main: Main, argv: Sequence[str] | None = None, *, check: Check = lambda _: None
) -> int:
    """Run a service until SIGINT, SIGTERM or SIGHUP; the exit status of the process.

    `check` looks at the settings before anything is waited for. 2: a setting is wrong; 1: it
    cannot go on, and said why. A bug ends it with a traceback.
    """
    arguments = _parser(name).parse_args(argv)
    status = 0
    try:
        settings = load_settings(arguments.overrides)
        logs.configure(
            settings.logging.form, settings.log_level, service=name, instance=settings.instance
        )
        check(settings)
        metrics.serve_metrics(settings.metrics_host, settings.metrics_port)
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
    listen_to_signals(stop, ended, DRAIN_SECS)
    end_traces = tracing.start(settings.tracing, service=name, instance=settings.instance)
    bus_settings = settings.bus.model_copy(update={"client_name": f"{name}-{settings.instance}"})
    service = Service(name=name, settings=settings, bus=RedisBus(bus_settings), stop=stop)
    # Asked when Prometheus asks: a loop that hangs would go on saying what it said last.
    metrics.READY.set_function(lambda: not service.why_not_ready())
    hearts = [asyncio.create_task(beat(service)) for beat in (_beat, _note_state)]
    try:
        service.readiness = lambda: "it waits for the broker"
        await wait_for_broker(service.bus, shown(settings.bus.url), stop)
        service.readiness = lambda: "it starts"
        if not stop.is_set():
            log.info("%s starts", service.consumer_name)
            await main(service)
    finally:
        end_within(DRAIN_SECS, ended)  # of which a part is over already if it was told to stop
        for heart in hearts:
            heart.cancel()
        await asyncio.gather(*hearts, return_exceptions=True)
        await service.bus.close()
        await asyncio.to_thread(end_traces)
        log.info("%s stopped", service.consumer_name)


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


async def together(stop: asyncio.Event, *parts: Coroutine[object, object, object]) -> None:
    """Run all of them until each has ended. One that fails ends the others, and is raised.

    They are told to stop besides being cancelled: `asyncio.wait_for` of Python 3.11, which redis-py
    uses, may swallow that, and a loop would go on for ever in a process that does nothing else.
    """

    async def run(part: Coroutine[object, object, object]) -> None:
        try:
            await part
        except Exception:
            stop.set()
            raise

    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(run(part))


def heartbeat_key(service_name: str, instance: str) -> str:
    return f"{HEARTBEAT_PREFIX}{service_name}:{instance}"


async def _note_state(service: Service) -> None:
    """What `python -m sgaps.health` reads: it needs no broker to know how this process is."""
    path, told = state_file(service.name, service.settings.instance), False
    try:
        while True:
            try:
                write_state(path, not_ready=service.why_not_ready(), not_alive=service.liveness())
            except OSError as error:
                if not told:
                    log.warning("health checks will fail: %s", error)
                told = True
            await asyncio.sleep(HEARTBEAT_SECS)
    finally:
        Path(path).unlink(missing_ok=True)


async def _beat(service: Service) -> None:
    key = heartbeat_key(service.name, service.settings.instance)
    started_at_secs = time.time()
    while True:
        reason = service.why_not_ready()
        fields = {
            "at_secs": repr(time.time()).encode(),
            "started_at_secs": repr(started_at_secs).encode(),
            "status": json.dumps(service.describe()).encode(),
            "ready": b"0" if reason else b"1",
            "reason": reason.encode(),
        }
        with contextlib.suppress(BusError):
            try:
                await service.bus.write(Put(key, fields, HEARTBEAT_TTL_SECS))
            except BusFull:  # who cannot say anything new is there all the same
                await service.bus.write(Put(key, {}, HEARTBEAT_TTL_SECS))
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


class LiveServices:
    """Every process whose heartbeat is fresh, for those who look again and again.

    To find who has come, the broker walks over all its keys, one for each session of the last hour,
    and two more for those of the last five minutes: so the more of them there are, the seldomer
    that is done.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._keys: list[str] = []
        self._unreadable: set[str] = set()
        self._find_at_secs = float("-inf")

    async def look(self) -> list[Heartbeat]:
        """Raises BusError."""
        begun_at_secs = time.monotonic()
        if begun_at_secs >= self._find_at_secs:
            self._keys = await self._bus.keys(HEARTBEAT_PREFIX)
            found_at_secs = time.monotonic()
            pause_secs = FIND_PAUSE * (found_at_secs - begun_at_secs)
            self._find_at_secs = found_at_secs + min(pause_secs, MAX_FIND_PAUSE_SECS)
            self._unreadable.intersection_update(self._keys)
        hashes = await self._bus.hashes(self._keys) if self._keys else []
        beating = zip(self._keys, hashes, strict=True)
        return [beat for key, fields in beating if fields and (beat := self._read(key, fields))]

    def _read(self, key: str, fields: dict[str, bytes]) -> Heartbeat | None:
        """Told once where it cannot be read: another release's, or nobody's of ours."""
        try:
            beat = _heartbeat(key, fields)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            if key not in self._unreadable:
                log.warning("%s is no heartbeat, and not counted: %r", key, error)
            self._unreadable.add(key)
            return None
        self._unreadable.discard(key)
        return beat


def _heartbeat(key: str, fields: dict[str, bytes]) -> Heartbeat:
    """Raises KeyError, ValueError, TypeError, RecursionError."""
    service, _, instance = key.removeprefix(HEARTBEAT_PREFIX).partition(":")
    status = json.loads(fields["status"])
    if not isinstance(status, dict):
        raise TypeError("its status is no object")
    return Heartbeat(
        service=service,
        instance=instance,
        at_secs=float(fields["at_secs"]),
        started_at_secs=float(fields["started_at_secs"]),
        status=status,
        ready=fields.get("ready") == b"1",
        reason=fields.get("reason", b"").decode(),
    )
