"""The services as processes of this machine: started, restarted when they die, ended in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sgaps.settings import override
from sgaps_cli.broker import REDIS_URL_ENV, Broker
from sgaps_cli.children import ends_with_us, last_words
from sgaps_cli.data_folder import DATA_DIR, LOGS_NAME

STOP_TIMEOUT_SECS = 15.0
FIRST_PAUSE_SECS = 1.0
LONGEST_PAUSE_SECS = 30.0
LOOK_EVERY_SECS = 0.5
STEADY_SECS = 60.0
"""A service that ran for so long and then ended has no crash loop."""

# In the order they end: first nobody is let in, last the recorder has written everything.
SERVICES = ("gateway", "reconstructor", "sampler", "trainer", "recorder")


@dataclass
class Restarts:
    """How long to wait before what ended is started again."""

    ends_in_a_row: int = 0
    """How often it ended soon after its start."""
    started_at_secs: float = field(default_factory=time.monotonic)

    def pause_secs(self) -> float:
        """After an end: twice as long each time it comes soon."""
        if time.monotonic() - self.started_at_secs > STEADY_SECS:
            self.ends_in_a_row = 0
        self.ends_in_a_row += 1
        return float(min(FIRST_PAUSE_SECS * 2 ** (self.ends_in_a_row - 1), LONGEST_PAUSE_SECS))

    def begin(self) -> None:
        self.started_at_secs = time.monotonic()


@dataclass(kw_only=True)
class Supervised:
    """One service process and its log."""

    name: str
    module: str
    overrides: Sequence[str]
    log_file: Path
    log_from_bytes: int = 0
    """Where in it what the process says begins."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What it gets beside ours."""
    process: asyncio.subprocess.Process | None = None
    restarts: Restarts = field(default_factory=Restarts)

    async def spawn(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.restarts.begin()
        with self.log_file.open("ab") as log:
            self.log_from_bytes = log.tell()
            self.process = await asyncio.create_subprocess_exec(
                *ends_with_us([sys.executable, "-m", self.module, *self.overrides]),
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **self.environment},
                # Ctrl-C in the terminal must reach the supervisor alone: it knows the order.
                start_new_session=True,
            )

    def last_words(self) -> str:
        """The last line of its log, of this start. Raises OSError."""
        return last_words(self.log_file, from_bytes=self.log_from_bytes)

    async def stop(self) -> None:
        """SIGTERM, then time to finish, then SIGKILL."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECS):
                await process.wait()
        except TimeoutError:
            _signal(process, signal.SIGKILL)
            await process.wait()


@dataclass
class Supervisor:
    """Keeps a list of services running."""

    services: list[Supervised]
    report: Callable[[str], None]
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list, init=False)

    async def start(self) -> None:
        for service in self.services:
            await service.spawn()
            self._watchers.append(asyncio.create_task(self._watch(service)))

    async def _watch(self, service: Supervised) -> None:
        while service.process is not None:
            code = await service.process.wait()
            if self._stopping.is_set():
                return
            pause_secs = service.restarts.pause_secs()
            self.report(
                f"{service.name} ended with status {code}, starting it again in {pause_secs:g} s "
                f"(its log: {service.log_file})"
            )
            if await self._told_to_stop_within(pause_secs):
                return
            try:
                await service.spawn()
            except OSError as error:  # no memory, no files: perhaps the next time
                self.report(f"{service.name} cannot be started: {error}")
                continue
            if self._stopping.is_set():  # `stop` saw the one before
                await service.stop()

    async def _told_to_stop_within(self, timeout_secs: float) -> bool:
        try:
            async with asyncio.timeout(timeout_secs):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def stop(self) -> None:
        """End the first service, then those between all at once, then the last one."""
        self._stopping.set()
        for wave in (self.services[:1], self.services[1:-1], self.services[-1:]):
            await asyncio.gather(*(service.stop() for service in wave))
        await asyncio.gather(*self._watchers)


async def keep_broker(broker: Broker, report: Callable[[str], None]) -> None:
    """Start our own broker again when it ends: what it had is in its append-only file."""
    restarts = Restarts()
    while broker.process is not None:
        await asyncio.sleep(LOOK_EVERY_SECS)
        code = broker.process.poll()
        if code is None:
            continue
        pause_secs = restarts.pause_secs()
        report(
            f"the broker ended with status {code}, starting it again in {pause_secs:g} s "
            f"(its log: {broker.log_file})"
        )
        await asyncio.sleep(pause_secs)
        restarts.begin()
        try:
            broker.spawn()
        except OSError as error:  # no memory, no files: perhaps the next time
            report(f"the broker cannot be started: {error}")


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def local_services(
    *, port: int, redis_url: str, data_dir: Path | None, reconstructors: int, extra: Sequence[str]
) -> list[Supervised]:
    """The five services with the settings of a local system; `extra` overrides come last.

    Without a `data_dir` recordings and checkpoints are where the settings have them.
    """
    common = [
        # By way of the environment: a command line, with a password in it, everybody can read.
        f"bus.url=${{oc.env:{REDIS_URL_ENV}}}",
        f"server.port={port}",
        *(_folders_in(data_dir) if data_dir else []),
        "training=live",
        "importance=learned",
        *extra,
    ]
    counts = {"reconstructor": reconstructors}
    return [
        Supervised(
            name=name if number == 1 else f"{name}-{number}",
            module=name,
            overrides=[*common, f"instance=local-{number}"],
            log_file=(data_dir or DATA_DIR) / LOGS_NAME / f"{name}-{number}.log",
            environment={REDIS_URL_ENV: redis_url},
        )
        for name in SERVICES
        for number in range(1, counts.get(name, 1) + 1)
    ]


def _folders_in(data_dir: Path) -> list[str]:
    return [
        override(f"data.{name}_dir", (data_dir / name).resolve())
        for name in ("recordings", "checkpoints")
    ]
