"""The services as processes of this machine: started, restarted when they die, ended in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RESTART_SECS = 1.0
STOP_TIMEOUT_SECS = 15.0

# In the order they end: first nobody is let in, last the recorder has written everything.
SERVICES = ("gateway", "reconstructor", "sampler", "trainer", "recorder")


@dataclass(kw_only=True)
class Supervised:
    """One service process and its log."""

    name: str
    module: str
    overrides: Sequence[str]
    log_file: Path
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0

    async def spawn(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self.overrides,
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                # Ctrl-C in the terminal must reach the supervisor alone: it knows the order.
                start_new_session=True,
            )

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
    _stopping: bool = field(default=False, init=False)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list, init=False)

    async def start(self) -> None:
        for service in self.services:
            await service.spawn()
            self._watchers.append(asyncio.create_task(self._watch(service)))

    async def _watch(self, service: Supervised) -> None:
        while service.process is not None:
            code = await service.process.wait()
            if self._stopping:
                return
            service.restarts += 1
            self.report(
                f"{service.name} ended with status {code}, starting it again "
                f"(its log: {service.log_file})"
            )
            await asyncio.sleep(RESTART_SECS)
            if self._stopping:
                return
            await service.spawn()

    async def stop(self) -> None:
        """End the services one after the other, in the order they were given."""
        self._stopping = True
        for service in self.services:
            await service.stop()
        await asyncio.gather(*self._watchers)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def local_services(
    *, port: int, redis_url: str, data_dir: Path, reconstructors: int, extra: Sequence[str]
) -> list[Supervised]:
    """The five services with the settings of a local system; `extra` overrides come last."""
    common = [
        f"bus.url={redis_url}",
        f"server.port={port}",
        f"data.recordings_dir={(data_dir / 'recordings').resolve()}",
        f"data.checkpoints_dir={(data_dir / 'checkpoints').resolve()}",
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
            log_file=data_dir / "logs" / f"{name}-{number}.log",
        )
        for name in SERVICES
        for number in range(1, counts.get(name, 1) + 1)
    ]
