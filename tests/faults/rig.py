"""A whole system that can be hurt: a broker with an AOF and the real services as processes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from faults.load import Load, Pace, playing
from faults.processes import CrashingBroker, Guarded
from ports import free_port
from sgaps.messages import CoordinatesChosen, DeadLetter, FrameAccepted, FrameReconstructed
from waiting import eventually

QUIET_TIMEOUT_SECS = 30.0
SAMPLES = 60
MIN_IDLE_SECS = 2.0
SOCKET_TIMEOUT_SECS = 2.0
BLOCK_SECS = 0.5
GROUPS = (
    (FrameAccepted.STREAM, "reconstructor"),
    (FrameAccepted.STREAM, "recorder"),
    (FrameReconstructed.STREAM, "sampler"),
    (CoordinatesChosen.stream_of("main"), "gateway"),
)
SETTINGS = (
    f"bus.min_idle_secs={MIN_IDLE_SECS}",
    f"bus.socket_timeout_secs={SOCKET_TIMEOUT_SECS}",
    f"bus.block_secs={BLOCK_SECS}",
    f"sampling.default_sample_count={SAMPLES}",
    "mask_update.strategy=interval",
    "mask_update.update_interval=1",
    "server.max_frame_rate=100000",
    "server.keyframe_interval=0",
    "server.probe_interval_secs=1",
    "recorder.segment_idle_secs=1",
    "reconstructor.method=telea",
)
"""Small and quick, so that a fault shows within seconds."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which processes a rig has, and how they are set up."""

    overrides: Sequence[str] = ()
    reconstructors: int = 1
    model: Sequence[str] = ()
    """Arguments of `faults.fixed_model`, which then stands in for the reconstructor."""
    recordings_dir: Path | None = None
    urls: Mapping[str, str] = field(default_factory=dict)
    """Broker URLs of the services that shall not go to the broker directly."""
    broker_port: int = field(default_factory=free_port)


class Rig:
    """The running system."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.recordings_dir = plan.recordings_dir or folder / "recordings"
        self.checkpoints_dir = folder / "checkpoints"
        self.port, self.metrics_port = free_port(), free_port()
        self.broker = CrashingBroker(folder=folder / "broker", port=plan.broker_port)
        self.redis = Redis.from_url(self.broker.url, protocol=2)
        self.services = self._services(folder / "logs", plan)
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def _services(self, logs: Path, plan: Plan) -> dict[str, Guarded]:
        replicas = [f"reconstructor-{n}" for n in range(1, plan.reconstructors + 1)]
        return {
            name: self._service(name, logs / f"{name}.log", plan)
            for name in ("gateway", *replicas, "sampler", "recorder")
        }

    def _service(self, name: str, log_file: Path, plan: Plan) -> Guarded:
        module = name.partition("-")[0]
        stand_in = plan.model if module == "reconstructor" else ()
        return Guarded(
            name=name,
            module="faults.fixed_model" if stand_in else module,
            log_file=log_file,
            overrides=[
                *stand_in,
                *SETTINGS,
                f"bus.url={plan.urls.get(module, self.broker.url)}",
                f"server.port={self.port}",
                f"data.recordings_dir={self.recordings_dir}",
                f"data.checkpoints_dir={self.checkpoints_dir}",
                f"data.shipped_dir={self.checkpoints_dir / 'none'}",
                f"instance={name}",
                f"metrics_port={self.metrics_port if module == 'recorder' else 0}",
                *plan.overrides,
            ],
        )

    async def start(self) -> None:
        self.broker.start()
        for service in self.services.values():
            await service.start()
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        try:
            return (await self._http.get("/api/ready")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def stop(self) -> None:
        await asyncio.gather(*(service.end() for service in self.services.values()))
        self.broker.stop()
        await self.redis.aclose()
        await self._http.aclose()

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/stream"

    def playing(
        self, *, sessions: int, pace: Pace, first_index: int = 0
    ) -> AbstractAsyncContextManager[Load]:
        """Players until the end of the block."""
        return playing(self.ws_url, sessions=sessions, pace=pace, first_index=first_index)

    async def kill(self, name: str) -> None:
        await self.services[name].kill()

    async def ledger(self) -> dict[str, int]:
        status = (await self._http.get("/api/status")).json()
        ledger: dict[str, int] = status["ledger"]
        return ledger

    async def is_connected(self, session_id: str) -> bool:
        session = (await self._http.get(f"/api/sessions/{session_id}")).json()
        return bool(session["connected"])

    async def recorded(self) -> int:
        """Frames that this recorder process says are on disk."""
        text = (await self._http.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        (line,) = (x for x in text.splitlines() if x.startswith("sgaps_frames_recorded_total "))
        return int(float(line.split()[1]))

    async def pending(self) -> dict[str, int]:
        """Entries of each group that were not read or not acknowledged yet."""
        return {group: await self._unfinished(stream, group) for stream, group in GROUPS}

    async def _unfinished(self, stream: str, group: str) -> int:
        rows: list[dict[str, Any]] = await self.redis.xinfo_groups(stream)
        (row,) = (row for row in rows if row["name"] == group.encode())
        after_id: bytes = row["last-delivered-id"]
        unread: list[Any] = await self.redis.xrange(stream, b"(" + after_id, count=1000) or []
        return int(row["pending"]) + len(unread)

    async def dead(self) -> int:
        """Entries of sgaps:dead."""
        return int(await self.redis.xlen(DeadLetter.STREAM))

    async def until_quiet(self) -> float:
        """Seconds until nothing is in flight any more; QUIET_TIMEOUT_SECS at most."""
        started_secs = time.monotonic()
        await self.at_rest()
        return time.monotonic() - started_secs

    async def at_rest(self) -> tuple[dict[str, int], dict[str, int]]:
        """Ledger and unfinished entries of a moment when nothing is in flight, or of the last one.

        Of one moment: the gateway's own frames never cease.
        """
        ends_at_secs = time.monotonic() + QUIET_TIMEOUT_SECS
        while True:
            pending, ledger = await self.pending(), await self.ledger()
            is_quiet = not any(pending.values()) and not ledger["in_flight"]
            if is_quiet or time.monotonic() > ends_at_secs:
                return ledger, pending
            await asyncio.sleep(0.1)

    def log_line_counts(self) -> dict[str, int]:
        return {name: len(service.log_lines) for name, service in self.services.items()}

    def tell_logs(self) -> None:
        """Print how each log ends: pytest shows it where a scenario failed."""
        for name, service in self.services.items():
            print(f"--- {name}, {service.deaths} deaths: {service.log_file}", file=sys.stderr)
            print("\n".join(service.log_lines[-25:]), file=sys.stderr)


@asynccontextmanager
async def running_rig(folder: Path, plan: Plan, *, limit_secs: float) -> AsyncIterator[Rig]:
    """A rig that is ready, is there for so long at most, and leaves no process behind."""
    rig = Rig(folder, plan)
    try:
        async with asyncio.timeout(limit_secs):
            await rig.start()
            yield rig
    except BaseException:
        rig.tell_logs()
        raise
    finally:
        await rig.stop()
