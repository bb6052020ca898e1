"""`sgaps up`: broker, five services and, if asked for, a game, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from sgaps.bus.connection import shown
from sgaps.ending import end_signals
from sgaps.errors import BusUnavailable, SgapsError
from sgaps.settings import BusSettings, ServerSettings, Settings, load_settings
from sgaps.terminal import dispensable
from sgaps_cli.broker import (
    BROKER_NAME,
    OWN_CURE,
    Broker,
    check_version,
    find_or_start,
    is_listening,
)
from sgaps_cli.browser import look_at
from sgaps_cli.data_folder import DATA_DIR, LOGS_NAME, Running, alone_in, tell
from sgaps_cli.play import key_of, open_anew, play_with_line
from sgaps_cli.supervisor import Supervisor, keep_broker, local_services
from sgaps_cli.tables import unbroken
from sgaps_client.player import PlayOptions
from sgaps_client.sources import open_source

READY_TIMEOUT_SECS = 120.0
ASKED_AT_LOOPBACK = ("127.0.0.1", "localhost", "0.0.0.0", "::")  # noqa: S104 - not bound here
STARTS_TRIED = 3
"""A service that ends so often before the system is ready will not come up."""
DEMO_SESSION_FRAMES = 100
"""The demo begins a new session now and then: training holds whole sessions out."""


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What `sgaps up` was asked for."""

    port: int | None
    """None: as configured."""
    data_dir: Path | None
    """None: recordings and checkpoints as configured, all else in DATA_DIR."""
    browser: bool
    play: str | None
    reconstructors: int
    overrides: tuple[str, ...]

    @property
    def own_dir(self) -> Path:
        """Where logs and the broker's data are."""
        return self.data_dir or DATA_DIR

    @property
    def logs_dir(self) -> Path:
        return self.own_dir / LOGS_NAME


class StartError(SgapsError):
    """The system did not come up."""


def run_system(options: UpOptions) -> int:
    """Start everything, wait for Ctrl-C, end everything.

    Raises StartError, FolderTaken, BrokerError, BusError, SettingsError, SourceError.
    """
    settings = _checked_settings(options)
    port = settings.server.port
    if is_listening(port):
        raise StartError(f"port {port} is in use; choose another with --port")
    if options.play is not None:  # for what they raise: better before anything is started
        key_of(options.play, None, cure="rename it, or play it with sgaps play --key")
        open_source(options.play).close()
    with alone_in(options.own_dir) as lock:
        broker = find_or_start(
            options.own_dir / BROKER_NAME, log_file=options.logs_dir / "broker.log"
        )
        tell(lock, Running(port=port, broker_url=broker.url if broker.process else None))
        # Where nothing can be written any more all must still go on, and end in its order.
        console = unbroken(Console(file=dispensable(sys.stdout)))
        _run_with_broker(options, settings, broker, console)
    return 0


def _run_with_broker(
    options: UpOptions, settings: Settings, broker: Broker, console: Console
) -> None:
    console.print(f"broker    {broker.origin}, {shown(broker.url)}", highlight=False, markup=False)
    try:
        asyncio.run(_run(options, settings, broker, console))
    finally:
        broker.stop()
        console.print("stopped", highlight=False)


def _checked_settings(options: UpOptions) -> Settings:
    """Raises SettingsError, StartError: better here than in a log."""
    named = [] if options.port is None else [f"server.port={options.port}"]
    settings = load_settings([*named, *options.overrides])
    server = settings.server
    if options.port not in {None, server.port}:
        raise StartError(
            f"--port {options.port} and --set server.port={server.port}: it is one port, so "
            "leave --set server.port out and name the port with --port"
        )
    if server.port == 0:
        raise StartError("server.port=0 is no port to wait for; choose one with --port")
    if server.host not in ASKED_AT_LOOPBACK:
        raise StartError(
            f"server.host={server.host}: sgaps up asks its gateway at 127.0.0.1; listen on all "
            "addresses with 0.0.0.0, or start the services one by one"
        )
    if server.tls_certificate:
        raise StartError("sgaps up speaks no TLS; start the services one by one, or use a proxy")
    server.token()  # for what it raises
    return settings


async def _run(options: UpOptions, settings: Settings, broker: Broker, console: Console) -> None:
    stop = asyncio.Event()
    for number in end_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if broker.process is None:
        bus = settings.bus.model_copy(update={"url": broker.url})
        await _wait_for_broker(bus, stop, console)
        if stop.is_set():
            return

    def report(line: str) -> None:
        console.print(line, style="yellow", highlight=False, markup=False)

    supervisor = Supervisor(
        local_services(
            port=settings.server.port,
            redis_url=broker.url,
            data_dir=options.data_dir,
            reconstructors=options.reconstructors,
            extra=options.overrides,
        ),
        report=report,
    )
    keeping = asyncio.create_task(keep_broker(broker, report))
    await supervisor.start()
    try:
        await _run_until_told(options, settings.server, supervisor, stop, console)
    finally:  # whatever could not be told
        await supervisor.stop()
        keeping.cancel()


async def _run_until_told(
    options: UpOptions,
    server: ServerSettings,
    supervisor: Supervisor,
    stop: asyncio.Event,
    console: Console,
) -> None:
    try:
        await _wait_until_ready(options, server.port, supervisor, stop, console)
        if not stop.is_set():
            await _work(options, server, stop, console)
    finally:
        console.print("stopping…", highlight=False)


async def _wait_for_broker(bus: BusSettings, stop: asyncio.Event, console: Console) -> None:
    """One that others start may not be there yet, or be too old for the services to come up."""
    deadline_secs = time.monotonic() + READY_TIMEOUT_SECS
    with console.status("waiting for the broker…"):
        while not stop.is_set():
            try:
                await check_version(bus)
            except BusUnavailable as error:
                if time.monotonic() > deadline_secs:
                    raise StartError(f"{error}; start it, or {OWN_CURE}") from error
                await asyncio.sleep(0.2)
            else:
                return


async def _wait_until_ready(
    options: UpOptions, port: int, supervisor: Supervisor, stop: asyncio.Event, console: Console
) -> None:
    url = f"http://127.0.0.1:{port}/api/ready"
    deadline_secs = time.monotonic() + READY_TIMEOUT_SECS
    with console.status("starting the services…"):
        # Whatever proxy this machine has is for other machines.
        async with httpx.AsyncClient(trust_env=False) as http:
            while not stop.is_set() and (trouble := await _trouble(http, url)):
                _give_up_on_crash_loops(supervisor)
                if time.monotonic() > deadline_secs:
                    raise StartError(
                        f"not ready after {READY_TIMEOUT_SECS:g} s: {trouble}; "
                        f"see {options.logs_dir}"
                    )
                await asyncio.sleep(0.2)


async def _trouble(http: httpx.AsyncClient, url: str) -> str:
    """Why the system is not ready; nothing where it is."""
    try:
        reply = await http.get(url)
    except httpx.HTTPError:
        return "the gateway does not answer"
    return "" if reply.status_code == httpx.codes.OK else reply.text


def _give_up_on_crash_loops(supervisor: Supervisor) -> None:
    for service in supervisor.services:
        if service.restarts.ends_in_a_row >= STARTS_TRIED:
            raise StartError(
                f"{service.name} does not come up: {service.last_words()} "
                f"(its log: {service.log_file})"
            )


async def _work(
    options: UpOptions, server: ServerSettings, stop: asyncio.Event, console: Console
) -> None:
    page = f"http://127.0.0.1:{server.port}/"
    console.print(f"live page {page}", highlight=False)
    console.print(f"data      {options.own_dir.resolve()}", highlight=False, markup=False)
    if options.browser:
        look_at(page)
    if options.play is None:
        console.print("ready; Ctrl-C ends it", highlight=False)
        await stop.wait()
        return
    demo = PlayOptions(
        url=f"ws://127.0.0.1:{server.port}/ws/stream",
        checkpoint_key=key_of(options.play, None),
        frames=None,
        session_frames=DEMO_SESSION_FRAMES,
        auth_token=server.token() or None,
    )
    ended = "the source ended"
    try:
        await play_with_line(open_anew(options.play, console), demo, stop=stop, console=console)
    except SgapsError as error:  # others may play, too
        ended = f"the source ended: {error}"
    if not stop.is_set():
        console.print(f"{ended}; the system runs on until Ctrl-C", highlight=False, markup=False)
        await stop.wait()
