"""The real services: they start in any order and end in bounded time, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from integration.processes import SERVICES, ServiceProcess, ending, heartbeats, start_service
from ports import free_port
from sgaps.bus import Publish, RedisBus
from sgaps.messages import FrameAccepted, FrameReconstructed
from sgaps.packing import pack_floats, pack_pixels
from sgaps.protocol.json_codec import encode
from sgaps.protocol.messages import FrameData, Resolution, SessionStart
from sgaps.recording import SegmentReader, find_segments
from sgaps.service import DRAIN_SECS
from sgaps.settings import Settings
from sgaps_cli import broker
from training import toy_recordings
from waiting import wait_until

BROKER_LATE_SECS = 3.0
FRAMES = 6000


def on_the_bus(url: str, settings: Settings, work: Callable[[RedisBus], Awaitable[None]]) -> None:
    async def done() -> None:
        bus = RedisBus(settings.bus.model_copy(update={"url": url}))
        try:
            await work(bus)
        finally:
            await bus.close()

    asyncio.run(done())


def is_ready(url: str, settings: Settings, *names: str) -> bool:
    found = heartbeats(url, settings)
    return all(name in found and found[name].ready for name in names)


def test_services_start_in_any_order_wait_for_the_broker_and_end_soon(
    settings: Settings, tmp_path: Path
) -> None:
    port, broker_port = free_port(), free_port()
    url = f"redis://127.0.0.1:{broker_port}/0"
    order = random.sample(SERVICES, len(SERVICES))
    services: list[ServiceProcess] = []
    with ending(services):
        for name in order:
            services.append(
                start_service(name, [f"bus.url={url}", f"server.port={port}"], tmp_path)
            )
        wait_until(lambda: all("waiting" in service.said for service in services))
        time.sleep(BROKER_LATE_SECS)
        server = broker.start(
            broker.find_program(), tmp_path / "broker", log_file=tmp_path / "log", port=broker_port
        )
        try:
            wait_until(lambda: is_ready(url, settings, *SERVICES))
            wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/api/ready").is_success)
            codes = [service.end(timeout_secs=DRAIN_SECS) for service in services]
        finally:
            server.stop()
    assert codes == [0] * len(SERVICES)
    for service in services:
        assert "Traceback" not in service.said, f"started as {order}"
        (line,) = service.lines("waiting for the broker")
        assert f"at redis://127.0.0.1:{broker_port}/0" in line
        assert service.lines(" ERROR ") == []


def test_a_service_that_waits_for_its_broker_ends_at_once(tmp_path: Path) -> None:
    sampler = start_service("sampler", ["bus.url=redis://127.0.0.1:1/0"], tmp_path)
    with ending([sampler]):
        wait_until(lambda: "waiting" in sampler.said)
        assert sampler.end(timeout_secs=DRAIN_SECS) == 0


def test_the_recorder_ends_while_busy_and_loses_nothing(
    clean_broker: str, settings: Settings, tmp_path: Path
) -> None:
    on_the_bus(clean_broker, settings, publish_frames)
    recorder = start_service("recorder", [f"bus.url={clean_broker}"], tmp_path)
    again: list[ServiceProcess] = []
    with ending([recorder]), ending(again):
        wait_until(lambda: bool(list((tmp_path / "recordings").rglob("*.part"))))
        assert recorder.end() == 0
        before = recorded(tmp_path)
        assert 0 < sum(before.values()) < FRAMES  # it was busy, and sealed what it had
        assert not list((tmp_path / "recordings").rglob("*.part"))
        again.append(start_service("recorder", [f"bus.url={clean_broker}"], tmp_path))
        wait_until(lambda: sum(recorded(tmp_path).values()) >= FRAMES)
        assert again[0].end() == 0
    assert recorded(tmp_path) == Counter((f"s{i % 8}", i // 8) for i in range(FRAMES))


@pytest.mark.parametrize("name", ["reconstructor", "sampler"])
def test_a_worker_ends_while_busy_and_loses_nothing(
    name: str, clean_broker: str, settings: Settings, tmp_path: Path
) -> None:
    """What it had in hand is answered or superseded; what it had not read is still there."""
    publish = {"reconstructor": publish_frames, "sampler": publish_reconstructions}[name]
    ends = {"reconstructor": FrameReconstructed.STREAM, "sampler": "sgaps:coordinates:main"}[name]
    begins = {"reconstructor": FrameAccepted.STREAM, "sampler": FrameReconstructed.STREAM}[name]
    on_the_bus(clean_broker, settings, publish)
    # As many as a turn does: where it must let some go, it reads all that waits.
    overrides = [f"bus.url={clean_broker}", "bus.batch_size=4"]
    service = start_service(name, overrides, tmp_path)
    with ending([service]):
        wait_until(lambda: bool(length(clean_broker, settings, ends)))
        assert service.end() == 0
    assert "Traceback" not in service.said

    async def everything_is_somewhere(bus: RedisBus) -> None:
        answered = await bus.length(ends)
        superseded = (await bus.ledger()).get("superseded", 0)
        assert await bus.pending(begins, name, count=10, min_idle_secs=0) == []
        unread = await bus.read(begins, name, "later", count=FRAMES, block_secs=0)
        assert answered + superseded + len(unread) == FRAMES
        assert unread

    on_the_bus(clean_broker, settings, everything_is_somewhere)


async def test_the_gateway_ends_while_busy_and_has_stored_what_it_accepted(
    clean_broker: str, settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    overrides = [
        f"bus.url={clean_broker}",
        f"server.port={port}",
        "server.max_frame_rate=10000",
        "server.probe_interval_secs=0",
    ]
    gateway = start_service("gateway", overrides, tmp_path)
    sent = 0
    with ending([gateway]):
        await asyncio.to_thread(wait_until, lambda: broker.is_listening(port))
        async with connect(f"ws://127.0.0.1:{port}/ws/stream") as socket:
            await socket.send(encode(session_start()))
            await socket.recv()
            ends = asyncio.create_task(asyncio.to_thread(_end_soon, gateway))
            with contextlib.suppress(ConnectionClosed):
                for sent in itertools.count():
                    await socket.send(encode(frame_data(sent)))
        assert await ends == 0
    assert "Traceback" not in gateway.said
    bus = RedisBus(settings.bus.model_copy(update={"url": clean_broker}))
    entries = await bus.tail(FrameAccepted.STREAM, "0-0", count=sent, block_secs=0)
    stored = [FrameAccepted.decode(entry.data).frame_id for entry in entries]
    ledger = await bus.ledger()
    await bus.close()
    assert stored == list(range(len(stored)))  # no hole before the end
    assert 0 < len(stored) == ledger["received"] <= sent


def _end_soon(service: ServiceProcess) -> int:
    time.sleep(0.5)
    return service.end()


def test_the_trainer_ends_in_the_middle_of_a_run(
    clean_broker: str, settings: Settings, tmp_path: Path
) -> None:
    for session in ("a", "bb", "ccc", "dddd"):
        toy_recordings.record(tmp_path / "recordings", session, frames=100)
    overrides = [f"bus.url={clean_broker}", "training=live", "training.min_new_frames=100"]
    trainer = start_service("trainer", overrides, tmp_path)
    with ending([trainer]):
        wait_until(lambda: _steps(clean_broker, settings) > 0)
        assert trainer.end() == 0
    assert "Traceback" not in trainer.said
    assert not (tmp_path / "checkpoints" / toy_recordings.KEY / "current").exists()


def _steps(url: str, settings: Settings) -> int:
    heartbeat = heartbeats(url, settings).get("trainer")
    return int(str(heartbeat.status.get("step", 0))) if heartbeat else 0


async def publish_frames(bus: RedisBus) -> None:
    for start in range(0, FRAMES, 500):
        await bus.write(*(Publish(frame(i)) for i in range(start, start + 500)))


def frame(index: int) -> FrameAccepted:
    return FrameAccepted(
        session_id=f"s{index % 8}",
        checkpoint_key="toy",
        gateway_id="main",
        frame_id=index // 8,
        coordinate_set_id=1,
        width=64,
        height=48,
        samples_bytes=pack_pixels(np.full((200, 3), 0.5)),
        state_bytes=pack_floats(np.zeros(2)),
        client_time_secs=0.0,
        received_at_secs=time.time(),
    )


async def publish_reconstructions(bus: RedisBus) -> None:
    grid = pack_floats(np.full((6, 8), 0.5))
    for start in range(0, FRAMES, 500):
        await bus.write(
            *(
                Publish(
                    FrameReconstructed(
                        session_id=f"s{i}",
                        gateway_id="main",
                        frame_id=0,
                        width=64,
                        height=48,
                        sample_count=200,
                        grid_width=8,
                        grid_height=6,
                        entropy_bytes=grid,
                        log_error_bytes=b"",
                        predicted_psnr_db=None,
                        model_version="telea",
                        received_at_secs=time.time(),
                        queue_secs=0.0,
                        inference_secs=0.0,
                    )
                )
                for i in range(start, start + 500)
            )
        )


def recorded(folder: Path) -> Counter[tuple[str, int]]:
    counts: Counter[tuple[str, int]] = Counter()
    for segment in find_segments(folder / "recordings"):
        with SegmentReader(segment.path) as reader:
            counts.update((segment.session_id, int(frame_id)) for frame_id in reader.frame_ids)
    return counts


def length(url: str, settings: Settings, stream: str) -> int:
    found: list[int] = []

    async def ask(bus: RedisBus) -> None:
        found.append(await bus.length(stream))

    on_the_bus(url, settings, ask)
    return found[0]


def session_start() -> SessionStart:
    return SessionStart(
        checkpoint_key="toy", resolution=Resolution(width=64, height=48), max_state_dim=64
    )


def frame_data(frame_id: int) -> FrameData:
    return FrameData(
        frame_id=frame_id,
        pixels=np.array([[0.5, 0.5, 0.5, 1]], np.float32),
        state_vector=[0.0],
        resolution=Resolution(width=64, height=48),
        timestamp=1.0,
    )
