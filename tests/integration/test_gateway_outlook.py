"""What the gateway learns of the system behind it: readiness, models, back-pressure."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import httpx
import pytest

from gateway.__main__ import main
from gateway.outlook import FULL_AT_BACKLOGS, SLOW_AT_BACKLOGS, Outlook
from gateway.serving import missing_services
from gateway.twins import Twins
from integration.conftest import RunningGateway, running_gateway, with_changes
from integration.talk import frame, heartbeat, receive, send, start
from sgaps.bus import MemoryBus, Put, RedisBus
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.messages import FrameAccepted
from sgaps.service import HEARTBEAT_TTL_SECS, Heartbeat, Service, heartbeat_key
from sgaps.settings import Settings
from waiting import eventually

NEEDED = ("reconstructor", "sampler", "recorder")
BACKLOG = 2


async def beat(gateway: RunningGateway, service: str, **status: object) -> None:
    """One heartbeat that lasts for this test."""
    times = {"at_secs": b"1", "started_at_secs": b"1"}
    fields = {**times, "status": json.dumps(status).encode(), "ready": b"1", "reason": b""}
    await gateway.bus.write(Put(heartbeat_key(service, "x"), fields, 60))


def living(service: str, *, ready: bool = True, reason: str = "") -> Heartbeat:
    return Heartbeat(
        service=service,
        instance="x",
        at_secs=1,
        started_at_secs=1,
        status={},
        ready=ready,
        reason=reason,
    )


def an_outlook(*, max_backlog: int) -> Outlook:
    return Outlook(MemoryBus(), max_backlog=max_backlog, twins=Twins("main", instance="here"))


async def ready(gateway: RunningGateway) -> tuple[int, dict[str, str]]:
    async with httpx.AsyncClient() as http:
        reply = await http.get(f"{gateway.http_url}/api/ready")
    told = reply.json()
    assert told["missing"] == list(told["why"])
    assert told["ready"] is (reply.status_code == 200)
    return reply.status_code, told["why"]


async def test_ready_when_all_are_there(gateway: RunningGateway) -> None:
    async def missing() -> bool:
        return (await ready(gateway)) == (503, dict.fromkeys(NEEDED, "no heartbeat"))

    async def all_there() -> bool:
        return (await ready(gateway)) == (200, {})

    await eventually(missing)
    for service in NEEDED:
        await beat(gateway, service)
    await eventually(all_there)


def test_who_lives_but_is_not_ready_is_missing() -> None:
    services = [
        living("reconstructor", ready=False, reason="loading the model"),
        living("sampler", ready=False, reason="x"),
        living("sampler"),
    ]
    assert missing_services(services) == {
        "reconstructor": "loading the model",
        "recorder": "no heartbeat",
    }


async def test_without_a_broker_nothing_is_ready(gateway_settings: Settings) -> None:
    settings = with_changes(gateway_settings, bus={"url": "redis://127.0.0.1:1/0"})
    async with running_gateway(settings) as gateway:
        assert await ready(gateway) == (503, {"broker": "it does not answer"})


async def test_a_recorder_far_behind_slows_the_games_and_then_stops_them(
    gateway_settings: Settings,
) -> None:
    settings = with_changes(gateway_settings, bus={"max_backlog": BACKLOG})
    async with running_gateway(settings) as gateway, gateway.connect() as socket:
        assert (await start(socket))["target_fps"] == 10
        frame_ids = iter(range(100))

        async def slow() -> bool:
            return bool((await heartbeat(socket))["target_fps"] == 5)

        for _ in range(SLOW_AT_BACKLOGS * BACKLOG + 1):
            await send(socket, frame(next(frame_ids)))
        await eventually(slow)
        for _ in range(FULL_AT_BACKLOGS * BACKLOG):
            await send(socket, frame(next(frame_ids)))
        error: dict[str, Any] = {}

        async def refused() -> bool:
            await send(socket, frame(next(frame_ids)))
            await send(socket, {"type": "heartbeat", "timestamp": 1})
            answer = await receive(socket)
            if answer["type"] == "error":
                error.update(answer)
                await receive(socket)
            return bool(error)

        await eventually(refused)
        assert (error["code"], error["fatal"]) == ("overloaded", False)
        assert error["retry_after_secs"] > 0
        stored = await gateway.bus.length(FrameAccepted.STREAM)
        assert (await gateway.bus.ledger())["received"] == stored
        await gateway.bus.trim(FrameAccepted.STREAM, "9999999999999-0")

        async def taken() -> bool:
            await send(socket, frame(next(frame_ids)))
            return bool((await heartbeat(socket))["type"] == "heartbeat_ack")

        await eventually(taken)


async def test_a_recorder_that_waits_for_space_slows_the_games(gateway: RunningGateway) -> None:
    async with gateway.connect() as socket:
        await start(socket)
        for waiting, target_fps in ("for space", 5), ("", 10):
            await beat(gateway, "recorder", waiting=waiting)

            async def told(expected: float = target_fps) -> bool:
                return bool((await heartbeat(socket))["target_fps"] == expected)

            await eventually(told)


async def test_the_backlog_that_reconstructors_may_leave_slows_nobody() -> None:
    outlook = an_outlook(max_backlog=0)
    outlook.check_room()
    assert outlook.target_fps(10) == 10
    assert not outlook.is_fresh
    await outlook.look()
    assert outlook.is_fresh
    outlook.check_room()


async def test_a_refusal_is_remembered_for_a_while() -> None:
    outlook = an_outlook(max_backlog=1)
    error = outlook.overloaded("why")
    assert isinstance(error, ProtocolError)
    assert (error.code, outlook.target_fps(10)) == (ErrorCode.OVERLOADED, 5)


@pytest.mark.parametrize("key", ["doom", "other"])
def test_nobody_serves_while_nobody_is_known_to_live(key: str) -> None:
    assert an_outlook(max_backlog=1).serving_version(key) == (False, "none")


async def test_two_gateways_with_one_id_are_not_ready(gateway_settings: Settings) -> None:
    """Each would take half of the other's answers, and drop them."""
    bus, stop = RedisBus(gateway_settings.bus), asyncio.Event()
    service = Service(name="gateway", settings=gateway_settings, bus=bus, stop=stop)
    serving = asyncio.create_task(main(service))
    beats_secs = itertools.count(step=HEARTBEAT_TTL_SECS + 1)

    async def told() -> bool:
        status = json.dumps(service.describe()).encode()
        at_secs = b"%d" % next(beats_secs)
        fields = {"at_secs": at_secs, "started_at_secs": b"1", "status": status}
        for instance in ("another", gateway_settings.instance):
            await bus.write(Put(heartbeat_key("gateway", instance), fields, 60))
        async with httpx.AsyncClient() as http:
            reply = await http.get(f"http://127.0.0.1:{gateway_settings.server.port}/api/ready")
        return "server.gateway_id=main" in reply.json()["why"].get("gateway", "")

    async def is_well() -> bool:
        return not service.why_not_ready()

    try:
        await eventually(is_well)
        await eventually(told)
        assert "instance another has server.gateway_id=main too" in service.why_not_ready()
    finally:
        stop.set()
        await serving
        await bus.close()
