"""The gateway's own frame: through all stages, and what it tells where one of them is dead."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from prometheus_client import REGISTRY
from redis import Redis

from gateway.probe import Probe, probe_frame
from integration.conftest import with_changes
from integration.processes import ServiceProcess, ending, start_service
from integration.scrape import scrape
from ports import free_port
from recorder.archive import Archive
from recorder.retention import Retention
from recorder.worker import Worker
from recorder_frames import frame
from sgaps.bus import Delivery, MemoryBus, Operation, Put
from sgaps.errors import BusFull
from sgaps.keys import session_key
from sgaps.messages import FrameAccepted
from sgaps.metrics import gateway as metrics
from sgaps.recording import find_segments, session_folder
from sgaps.service import Service
from sgaps.settings import Settings
from sgaps_cli import broker
from waiting import eventually, wait_until

INTERVAL_SECS = 2.0
SLOW_SECS = 240


@dataclass
class Pipeline:
    """The four services of a frame's way, which can be killed and started again."""

    url: str
    folder: Path
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    services: dict[str, ServiceProcess] = field(default_factory=dict)

    def start(self, name: str) -> None:
        self.services[name] = start_service(
            name,
            [
                f"bus.url={self.url}",
                f"server.port={self.port}",
                f"server.probe_interval_secs={INTERVAL_SECS}",
                f"metrics_port={self.metrics_port if name == 'gateway' else 0}",
            ],
            self.folder,
        )

    def kill(self, name: str) -> None:
        self.services[name].end(signal.SIGKILL)

    def get(self, path: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)
        return answer.raise_for_status().json()

    def probes(self, outcome: str) -> float:
        return scrape(self.metrics_port).of("sgaps_probes_total", outcome=outcome)

    def seen_at_secs(self, what: str) -> float:
        return scrape(self.metrics_port).of(f"sgaps_probe_{what}_timestamp_seconds")

    def wait_for(self, outcome: str, *, more: int) -> None:
        """Until so many more probes have ended so."""
        wanted = self.probes(outcome) + more
        wait_until(lambda: self.probes(outcome) >= wanted, timeout_secs=SLOW_SECS)

    def wait_for_recorded(self) -> None:
        """Until one more probe is seen to be recorded."""
        before_secs = self.seen_at_secs("recorded")
        wait_until(lambda: self.seen_at_secs("recorded") > before_secs, timeout_secs=SLOW_SECS)


@pytest.fixture(scope="module")
def pipeline(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """For all tests of this file; each leaves it whole, and the last one ends the recorder."""
    with Redis.from_url(broker_url) as redis:
        redis.flushall()
    pipeline = Pipeline(broker_url, tmp_path_factory.mktemp("pipeline"))
    for name in ("gateway", "reconstructor", "sampler", "recorder"):
        pipeline.start(name)
    with ending(list(pipeline.services.values())):
        wait_until(lambda: broker.is_listening(pipeline.metrics_port), timeout_secs=SLOW_SECS)
        pipeline.wait_for("answered", more=2)
        yield pipeline
        for name in ("reconstructor", "recorder"):  # those that were started again
            pipeline.kill(name)


def test_without_a_recorder_answers_go_on_and_recording_stands_still(pipeline: Pipeline) -> None:
    pipeline.wait_for_recorded()
    pipeline.kill("recorder")
    pipeline.wait_for("answered", more=2)  # what was recorded before is seen by now
    stood_at_secs = pipeline.seen_at_secs("recorded")
    pipeline.wait_for("answered", more=3)
    assert pipeline.seen_at_secs("recorded") == stood_at_secs
    assert pipeline.seen_at_secs("answered") > stood_at_secs
    pipeline.start("recorder")
    wait_until(lambda: pipeline.seen_at_secs("recorded") > stood_at_secs, timeout_secs=SLOW_SECS)


def test_without_a_reconstructor_probes_are_lost_and_told_once(pipeline: Pipeline) -> None:
    pipeline.kill("reconstructor")
    pipeline.wait_for("lost", more=2)
    answered_at_secs = pipeline.seen_at_secs("answered")
    pipeline.wait_for("lost", more=2)
    assert pipeline.seen_at_secs("answered") == answered_at_secs
    pipeline.start("reconstructor")
    pipeline.wait_for("answered", more=2)
    assert pipeline.get("/api/status")["ledger"] == {"in_flight": 0}
    gateway = pipeline.services["gateway"]
    told = gateway.lines("a probe is lost: not answered within 2 s")
    assert len(told) == len(gateway.lines("probes are answered again")) > 0
    assert len(told) < pipeline.probes("lost")


def test_a_probe_goes_through_all_stages_and_leaves_no_trace(pipeline: Pipeline) -> None:
    pipeline.wait_for_recorded()
    found = scrape(pipeline.metrics_port)
    status = pipeline.get("/api/status")
    answered = found.of("sgaps_probes_total", outcome="answered")
    assert answered - found.of("sgaps_probe_seconds_count") in {0, 1}  # one came meanwhile
    assert 0 < found.of("sgaps_probe_seconds_sum") < 2 * answered * INTERVAL_SECS
    assert time.time() - found.of("sgaps_probe_answered_timestamp_seconds") < 60
    assert found.of("sgaps_frames_received_total") == 0
    assert found.of("sgaps_end_to_end_seconds_count") == 0
    assert status["ledger"] == {"in_flight": 0}
    assert (status["frames_processed"], status["active_sessions"]) == (0, 0)
    assert pipeline.get("/api/sessions") == []
    assert pipeline.services["recorder"].end() == 0  # which seals everything
    assert find_segments(pipeline.folder / "recordings") == []
    assert [p.name for p in (pipeline.folder / "recordings").iterdir()] == [".recorder.lock"]


def lost() -> float:
    return REGISTRY.get_sample_value("sgaps_probes_total", {"outcome": "lost"}) or 0


class FullBus(MemoryBus):
    """Takes nothing."""

    async def write(self, *operations: Operation) -> None:
        raise BusFull("the broker is out of memory")


async def test_a_probe_that_cannot_be_sent_is_lost_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = lost()
    probe = Probe(FullBus(), gateway_id="g", interval_secs=1)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await probe.turn()
    assert lost() - before == 3
    assert caplog.messages == ["a probe is lost: the broker is out of memory"]


async def test_a_late_answer_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    before, bus = lost(), MemoryBus()
    probe = Probe(bus, gateway_id="g", interval_secs=0.01)
    await probe.turn()
    await asyncio.sleep(0.01)
    await probe.turn()
    first, second = [
        FrameAccepted.decode(entry.data)
        for entry in await bus.tail(FrameAccepted.STREAM, bus.START, count=9, block_secs=0)
    ]
    assert first.frame_id < second.frame_id
    caplog.clear()
    with caplog.at_level(logging.INFO):
        probe.take_answer(first.frame_id)
        assert caplog.messages == []
        probe.take_answer(second.frame_id)
        probe.take_answer(second.frame_id)
    assert caplog.messages == ["probes are answered again"]
    await probe.turn()
    assert lost() - before == 1


@pytest.mark.parametrize("is_full", [False, True])
async def test_the_recorder_marks_a_probe_only_where_it_could_record(
    settings: Settings, is_full: bool
) -> None:
    settings = with_changes(settings, recorder={"min_free_bytes": 2**60 if is_full else 0})
    service = Service(name="recorder", settings=settings, bus=MemoryBus(), stop=asyncio.Event())
    archive = Archive(settings)
    worker = Worker(service, archive, Retention(settings))
    batch = [
        Delivery(entry_id="1-1", message=probe_frame("east", 7)),
        Delivery(entry_id="1-2", message=probe_frame("east", 8)),
    ]
    handling = asyncio.create_task(worker.handle(batch))
    if is_full:
        await eventually(lambda: "disk full" in worker.waiting_for)
        assert not handling.done()
        handling.cancel()
    else:
        (mark,) = (await handling).marks
        assert (mark.key, mark.fields) == (
            "sgaps:session:probe:east",
            {"last_recorded_frame_id": b"8"},
        )
    archive.close()


async def test_beside_frames_that_all_failed_a_probe_tells_nobody_that_recording_works(
    settings: Settings,
) -> None:
    service = Service(name="recorder", settings=settings, bus=MemoryBus(), stop=asyncio.Event())
    archive = Archive(settings)
    worker = Worker(service, archive, Retention(settings))
    lost = frame("west", 1)
    folder = session_folder(settings.data.recordings_dir, lost.checkpoint_key, lost.session_id)
    folder.parent.mkdir(parents=True)
    folder.touch()  # where a folder should be
    batch = [
        Delivery(entry_id="1-1", message=lost),
        Delivery(entry_id="1-2", message=probe_frame("east", 7)),
    ]
    failing = await worker.handle(batch)
    folder.unlink()
    working = await worker.handle(batch)
    archive.close()
    assert (failing.failed, len(failing.marks)) == (frozenset({"1-1"}), 0)
    assert (working.failed, len(working.marks)) == (frozenset(), 2)


async def test_what_an_earlier_gateway_had_recorded_is_no_news() -> None:
    bus, key = MemoryBus(), session_key("probe:g")
    metrics.PROBE_RECORDED_AT_SECS.set(0)
    await bus.write(Put(key, {"last_recorded_frame_id": b"%d" % (time.time() * 1000 - 9)}, 60))
    probe = Probe(bus, gateway_id="g", interval_secs=1)
    await probe.turn()
    await probe.turn()
    assert REGISTRY.get_sample_value("sgaps_probe_recorded_timestamp_seconds") == 0
    await bus.write(Put(key, {"last_recorded_frame_id": b"%d" % (time.time() * 1000)}, 60))
    await probe.turn()
    recorded_at_secs = REGISTRY.get_sample_value("sgaps_probe_recorded_timestamp_seconds")
    assert recorded_at_secs == pytest.approx(time.time(), abs=5)


async def test_a_clock_that_is_set_back_does_not_hide_what_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither from the gateway that runs then, nor from one that begins afterwards."""
    bus = MemoryBus()
    for jump_secs in (0, -3600):
        probe = Probe(bus, gateway_id="g", interval_secs=1)
        for further_secs in (0, -600):
            monkeypatch.setattr("gateway.probe.time", clock(jump_secs + further_secs))
            metrics.PROBE_RECORDED_AT_SECS.set(0)
            await probe.turn()  # looks, and sends
            assert recorded_at_secs() == 0
            await record_newest(bus)
            await probe.turn()
            assert recorded_at_secs() > 0


def clock(off_by_secs: float) -> Mock:
    """The module `time`, as of another time, at which it stands."""
    now_secs = time.time() + off_by_secs
    return Mock(wraps=time, time=lambda: now_secs)


async def record_newest(bus: MemoryBus) -> None:
    """Mark the probe that was sent last, as a recorder does."""
    *_, newest = await bus.tail(FrameAccepted.STREAM, bus.START, count=99, block_secs=0)
    frame = FrameAccepted.decode(newest.data)
    mark = {"last_recorded_frame_id": b"%d" % frame.frame_id}
    await bus.write(Put(session_key(frame.session_id), mark, 60))


def recorded_at_secs() -> float:
    return REGISTRY.get_sample_value("sgaps_probe_recorded_timestamp_seconds") or 0


async def test_an_interval_of_0_is_never() -> None:
    bus = MemoryBus()
    forget_what_was_seen()
    await Probe(bus, gateway_id="g", interval_secs=0).run(asyncio.Event())
    assert await bus.length(FrameAccepted.STREAM) == 0
    assert (answered_at_secs(), recorded_at_secs()) == (0, 0)


async def test_the_silence_before_the_first_answer_began_with_the_first_probe() -> None:
    """And not in 1970."""
    bus, stop, began_at_secs = MemoryBus(), asyncio.Event(), time.time()
    forget_what_was_seen()
    probing = asyncio.create_task(Probe(bus, gateway_id="g", interval_secs=60).run(stop))
    await eventually(lambda: bus.length(FrameAccepted.STREAM))
    stop.set()
    await probing
    assert began_at_secs <= answered_at_secs() <= time.time()
    assert began_at_secs <= recorded_at_secs() <= time.time()


def forget_what_was_seen() -> None:
    metrics.PROBE_ANSWERED_AT_SECS.set(0)
    metrics.PROBE_RECORDED_AT_SECS.set(0)


def answered_at_secs() -> float:
    return REGISTRY.get_sample_value("sgaps_probe_answered_timestamp_seconds") or 0


async def test_a_gateways_probes_are_its_own() -> None:
    bus = MemoryBus()
    for gateway_id in ("east", "west"):
        await Probe(bus, gateway_id=gateway_id, interval_secs=1).turn()
    entries = await bus.tail(FrameAccepted.STREAM, bus.START, count=9, block_secs=0)
    frames = [FrameAccepted.decode(entry.data) for entry in entries]
    assert [(f.session_id, f.gateway_id) for f in frames] == [
        ("probe:east", "east"),
        ("probe:west", "west"),
    ]
