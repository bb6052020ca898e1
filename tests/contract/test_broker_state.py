"""What the recorder tells Prometheus of the broker, over both buses."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from prometheus_client import CollectorRegistry

from contract.conftest import GROUP, STREAM, bus_settings, flush, publish, read
from recorder import broker_state
from sgaps.bus import (
    Ack,
    Bus,
    Count,
    Group,
    MemoryBus,
    Publish,
    Put,
    RedisBus,
    published_at_secs,
)
from sgaps.errors import BusUnavailable
from sgaps.messages import CoordinatesChosen, DeadLetter, FrameReconstructed, SegmentSealed
from sgaps.metrics.broker import GroupState
from sgaps.service import LiveServices, heartbeat_key
from waiting import eventually

COORDINATES = CoordinatesChosen.stream_of("east")


async def beat(bus: Bus, service: str, instance: str, *, ready: bool, **status: object) -> None:
    times = {"at_secs": b"1", "started_at_secs": b"1"}
    told = {"status": json.dumps(status).encode(), "ready": b"%d" % ready, "reason": b""}
    await bus.write(Put(heartbeat_key(service, instance), {**times, **told}, 60))


async def test_groups_tell_how_far_they_are(bus: Bus) -> None:
    assert await bus.groups(STREAM) == {}
    await publish(bus, 1, 2, 3)
    first, second = await read(bus, count=2)
    await bus.write(Ack(STREAM, GROUP, [first]))
    await bus.ensure_group(STREAM, "other")
    assert await bus.groups(STREAM) == {
        GROUP: Group(delivered_id=second, pending=1),
        "other": Group(delivered_id=bus.START, pending=0),
    }


async def test_the_clock_is_that_of_the_ids(bus: Bus) -> None:
    before_secs = await bus.now_secs()
    await publish(bus, 1)
    after_secs = await bus.now_secs()
    millis, _ = (await bus.last_id(STREAM)).split("-")
    assert int(before_secs * 1000) <= int(millis) <= after_secs * 1000
    assert before_secs == pytest.approx(time.time(), abs=5)


async def test_an_empty_broker_has_every_series_at_0(bus: Bus) -> None:
    state = await broker_state.look(bus, await LiveServices(bus).look())
    assert set(state.groups) == {
        ("sgaps:frames", "reconstructor"),
        ("sgaps:frames", "recorder"),
        ("sgaps:reconstructions", "sampler"),
        ("sgaps:recordings", "trainer"),
    }
    assert set(state.groups.values()) == {GroupState(pending=0, oldest_undelivered_secs=0)}
    assert set(state.lengths.values()) == set(state.ledger.values()) == {0}
    assert {"received", "delivered", "lost_flush", "dead_recorder"} <= set(state.ledger)
    assert (state.in_flight, state.dead_letters) == (0, 0)
    assert state.services == {
        (service, is_ready): 0
        for service in broker_state.SERVICES
        for is_ready in ("ready", "not_ready")
    }


async def look_at(bus: Bus, group: str, *, oldest: str) -> GroupState:
    """The state of a group, whose age must be that of this entry, by the broker's clock."""
    published_secs = published_at_secs(oldest)
    before_secs = await bus.now_secs()
    state = await broker_state.group_state(bus, STREAM, group)
    after_secs = await bus.now_secs()
    age_secs = state.oldest_undelivered_secs
    assert before_secs - published_secs <= age_secs + 0.001 <= after_secs - published_secs + 0.002
    return state


async def test_what_waits_has_an_age_and_what_is_in_hand_is_pending(bus: Bus) -> None:
    await publish(bus, 1)
    first = await bus.last_id(STREAM)
    await asyncio.sleep(0.3)
    await publish(bus, 2)
    await bus.ensure_group(STREAM, "reconstructor")
    waiting = await look_at(bus, "reconstructor", oldest=first)
    assert waiting.pending == 0
    assert waiting.oldest_undelivered_secs >= 0.3
    await bus.read(STREAM, "reconstructor", "one", count=1, block_secs=0)
    half = await look_at(bus, "reconstructor", oldest=await bus.last_id(STREAM))
    assert half.pending == 1
    await bus.read(STREAM, "reconstructor", "one", count=1, block_secs=0)
    assert await broker_state.group_state(bus, STREAM, "reconstructor") == GroupState(
        pending=2, oldest_undelivered_secs=0
    )


async def test_what_nobody_ever_came_for_grows_old(bus: Bus) -> None:
    """Without a reconstructor there is no group: that is when more of them are needed most."""
    await publish(bus, 1)
    await asyncio.sleep(0.2)
    state = await broker_state.group_state(bus, STREAM, "reconstructor")
    assert state.oldest_undelivered_secs >= 0.2


async def test_trimming_does_not_change_an_age(bus: Bus) -> None:
    await publish(bus, 1)
    await publish(bus, 2)
    ids = await read(bus, count=1)
    await bus.write(Ack(STREAM, GROUP, ids))
    await bus.trim(STREAM, await bus.floor(STREAM, GROUP))
    await asyncio.sleep(0.2)
    state = await look_at(bus, GROUP, oldest=await bus.last_id(STREAM))
    assert state.oldest_undelivered_secs >= 0.2


async def test_everything_is_found(bus: Bus) -> None:
    await beat(bus, "gateway", "a", ready=True, gateway_id="east")
    await beat(bus, "reconstructor", "a", ready=True)
    await beat(bus, "reconstructor", "b", ready=True)
    await beat(bus, "reconstructor", "c", ready=False)
    letter = DeadLetter(
        source_stream=STREAM, group=GROUP, entry_id="1-1", deliveries=3, reason="", data=b""
    )
    segment = SegmentSealed(
        checkpoint_key="k", session_id="s", path="p", frame_count=1, size_bytes=1
    )
    await publish(bus, 1, 2)
    await bus.write(Publish(letter), Publish(segment), Count("received", 7), Count("superseded", 4))
    await bus.ensure_group(COORDINATES, "gateway")
    state = await broker_state.look(bus, await LiveServices(bus).look())
    assert state.lengths == {
        STREAM: 2,
        FrameReconstructed.STREAM: 0,
        SegmentSealed.STREAM: 1,
        COORDINATES: 0,
    }
    assert (COORDINATES, "gateway") in state.groups
    assert (state.ledger["received"], state.in_flight, state.dead_letters) == (7, 3, 1)
    assert state.services["gateway", "ready"] == 1
    assert state.services["reconstructor", "ready"] == 2
    assert state.services["reconstructor", "not_ready"] == 1
    assert state.services["trainer", "ready"] == state.services["trainer", "not_ready"] == 0


async def test_a_flush_leaves_zeros_and_no_error(bus: Bus, request: pytest.FixtureRequest) -> None:
    await publish(bus, 1)
    await read(bus)
    await flush(bus, "" if isinstance(bus, MemoryBus) else request.getfixturevalue("broker_url"))
    assert set((await broker_state.look(bus, await LiveServices(bus).look())).lengths.values()) == {
        0
    }


async def test_a_flush_is_no_reset_of_the_ledgers_counters(
    bus: Bus, request: pytest.FixtureRequest
) -> None:
    """Prometheus would count all that was ever dropped as dropped now."""
    registry = CollectorRegistry()
    turn = broker_state.exposed(bus, registry)
    await bus.write(Count("received", 5), Count("superseded", 3), Count("delivered", 2))
    await turn()
    await flush(bus, "" if isinstance(bus, MemoryBus) else request.getfixturevalue("broker_url"))
    await turn()
    columns = {name: {"column": name} for name in ("received", "superseded", "delivered")}
    assert {
        name: registry.get_sample_value("sgaps_ledger_frames_total", labels)
        for name, labels in columns.items()
    } == {"received": 5, "superseded": 3, "delivered": 2}


async def test_without_a_broker_nothing_is_told() -> None:
    bus = RedisBus(bus_settings("redis://127.0.0.1:1/0"))
    registry = CollectorRegistry()
    turn = broker_state.exposed(bus, registry)
    with pytest.raises(BusUnavailable):
        await turn()
    await bus.close()
    assert list(registry.collect()) == []


async def test_the_more_keys_there_are_the_seldomer_new_services_are_looked_for(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, walked = bus.keys, 0

    async def slow(prefix: str) -> list[str]:
        nonlocal walked
        walked += 1
        await asyncio.sleep(0.05)
        return await walk(prefix)

    monkeypatch.setattr(bus, "keys", slow)
    living = LiveServices(bus)
    await beat(bus, "gateway", "east", ready=True)
    await living.look()
    await beat(bus, "sampler", "new", ready=True)
    await beat(bus, "gateway", "east", ready=False)
    assert [one.ready for one in await living.look()] == [False]
    assert walked == 1

    async def both_are_found() -> bool:
        return {one.service for one in await living.look()} == {"gateway", "sampler"}

    await eventually(both_are_found)
    assert walked == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"at_secs": b"x"},
        {"at_secs": b"1", "started_at_secs": b"1", "status": b"[" * 9},
        {"at_secs": b"1", "started_at_secs": b"1", "status": b"[]"},
        {"at_secs": b"1", "started_at_secs": b"1", "status": b"{}", "reason": b"\xff"},
    ],
)
async def test_a_heartbeat_that_cannot_be_read_is_left_out_and_told_once(
    bus: Bus, caplog: pytest.LogCaptureFixture, fields: dict[str, bytes]
) -> None:
    await beat(bus, "gateway", "east", ready=True)
    await bus.write(Put(heartbeat_key("sampler", "junk"), fields, 60))
    living = LiveServices(bus)
    for _ in range(2):
        assert [one.service for one in await living.look()] == ["gateway"]
    assert caplog.text.count("sampler:junk") == 1
