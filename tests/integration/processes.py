"""The real service processes, as a deployment starts them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgaps.bus import RedisBus
from sgaps.service import Heartbeat, LiveServices
from sgaps.settings import Settings

SERVICES = ("gateway", "reconstructor", "sampler", "recorder", "trainer")
# Training has its own tests, and so has the network; here they would only take time.
QUICK = ("reconstructor.method=telea", "training.min_new_frames=100000", "instance=test")


@dataclass(frozen=True, kw_only=True)
class ServiceProcess:
    """A service and what it said."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def said(self) -> str:
        return self.log_file.read_text()

    def lines(self, part: str) -> list[str]:
        return [line for line in self.said.splitlines() if part in line]

    def end(self, number: signal.Signals = signal.SIGTERM, *, timeout_secs: float = 30) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_secs)


def start_service(
    name: str,
    overrides: Sequence[str],
    folder: Path,
) -> ServiceProcess:
    log_file = folder / f"{name}.log"
    own = [
        f"data.recordings_dir={folder / 'recordings'}",
        f"data.checkpoints_dir={folder / 'checkpoints'}",
    ]
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", name, *QUICK, *own, *overrides],
            stdout=log,
            stderr=log,
        )
    return ServiceProcess(name=name, process=process, log_file=log_file)


@contextmanager
def ending(services: Sequence[ServiceProcess]) -> Iterator[None]:
    """No process is left, whatever the test found."""
    try:
        yield
    finally:
        for service in services:
            service.process.kill()
            service.process.wait()


def heartbeats(url: str, settings: Settings) -> dict[str, Heartbeat]:
    async def asked() -> list[Heartbeat]:
        bus = RedisBus(settings.bus.model_copy(update={"url": url}))
        try:
            return await LiveServices(bus).look()
        finally:
            await bus.close()

    return {heartbeat.service: heartbeat for heartbeat in asyncio.run(asked())}
