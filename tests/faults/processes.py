"""The processes of a rig: services that are started again when they die, and the broker."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from sgaps_cli import broker
from sgaps_cli.supervisor import Supervised

RESTART_SECS = 0.1


@dataclass(kw_only=True)
class Guarded(Supervised):
    """A service that is started again at once whenever it dies, as an orchestrator would."""

    deaths: int = 0
    _watcher: asyncio.Task[None] | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _may_live: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def start(self) -> None:
        self._may_live.set()
        await self.spawn()
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self.process is not None:
            await self.process.wait()
            if self._stopping:
                return
            self.deaths += 1
            await asyncio.sleep(RESTART_SECS)
            await self._may_live.wait()
            if not self._stopping:
                await self.spawn()

    def signal(self, number: signal.Signals) -> None:
        """Of a process that died meanwhile there is nothing to hurt."""
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, number)

    async def kill(self) -> None:
        """kill -9, and wait until the next process has been started."""
        process = self.process
        await self.kill_for_good()
        self._may_live.set()
        while self.process is process:
            await asyncio.sleep(0.01)

    async def kill_for_good(self) -> None:
        """kill -9, and no new process before `revive`."""
        deaths = self.deaths
        self._may_live.clear()
        self.signal(signal.SIGKILL)
        while self.deaths == deaths:
            await asyncio.sleep(0.01)

    def revive(self) -> None:
        self._may_live.set()

    async def end(self) -> None:
        """SIGTERM and no new start; a frozen process must be able to hear it."""
        self._stopping = True
        self._may_live.set()
        self.signal(signal.SIGCONT)
        await self.stop()
        if self._watcher is not None:
            await self._watcher

    @property
    def log_lines(self) -> list[str]:
        return self.log_file.read_text("utf-8", "replace").splitlines()


@dataclass(kw_only=True)
class CrashingBroker:
    """A real broker that keeps an AOF (everysec), can be killed, and comes back where it was."""

    folder: Path
    port: int
    _broker: broker.Broker | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._broker = broker.start(
            broker.find_program(),
            self.folder / "data",
            log_file=self.folder / "log",
            port=self.port,
        )

    def kill(self) -> None:
        """kill -9."""
        assert self._broker is not None
        assert self._broker.process is not None
        self._broker.process.kill()
        self._broker.process.wait()

    def stop(self) -> None:
        if self._broker is not None:
            self._broker.stop()
