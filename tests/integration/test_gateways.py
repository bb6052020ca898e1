"""Several gateways on one broker share sessions: any of them resumes any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from integration.conftest import RunningGateway, running_gateway, with_changes
from integration.talk import chosen, frame, heartbeat, receive, send, start
from ports import free_port
from sgaps.bus import Publish
from sgaps.settings import Settings
from waiting import eventually


@asynccontextmanager
async def two_gateways(settings: Settings) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    """`one` and `other`."""
    one, other = (
        with_changes(settings, server={"gateway_id": name, "port": free_port()})
        for name in ("one", "other")
    )
    async with running_gateway(one) as first, running_gateway(other) as second:
        yield first, second


async def test_a_session_goes_on_at_another_gateway(gateway_settings: Settings) -> None:
    async with two_gateways(gateway_settings) as (first, second):
        async with first.connect() as socket:
            session_id = (await start(socket))["session_id"]
            await send(socket, frame(0))
            await send(socket, frame(1))
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"
        async with second.connect() as socket:
            ack = await start(socket, resume_session_id=session_id)
            assert (ack["session_id"], ack["resumed"]) == (session_id, True)
            assert ack["last_frame_id"] == 1
            # What was asked for at the first one comes too late.
            await first.bus.write(Publish(chosen(session_id, 1, gateway_id="one")))

            async def gone() -> bool:
                return (await first.bus.ledger()).get("session_gone", 0) == 1

            await eventually(gone)
            await send(socket, frame(2))
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"  # the frame is stored
            await second.bus.write(Publish(chosen(session_id, 2, gateway_id="other")))
            assert (await receive(socket))["frame_id"] == 2
            ledger = await second.bus.ledger()
            assert (ledger["received"], ledger["delivered"]) == (3, 1)


async def test_an_older_socket_hears_that_its_session_went_on_at_another_gateway(
    gateway_settings: Settings,
) -> None:
    """By its next heartbeat, though frames of its own came after; and not where it came back."""
    async with two_gateways(gateway_settings) as (first, second), first.connect() as older:
        session_id = (await start(older))["session_id"]
        await send(older, frame(0))
        assert (await heartbeat(older))["type"] == "heartbeat_ack"
        async with second.connect() as newer:
            await start(newer, resume_session_id=session_id)
            await send(newer, frame(1))
            assert (await heartbeat(newer))["type"] == "heartbeat_ack"
            await send(older, frame(2))
            error = await heartbeat(older)
            assert (error["code"], error["fatal"]) == ("session_taken_over", True)
            await older.wait_closed()
            assert (await heartbeat(newer))["type"] == "heartbeat_ack"
            async with first.connect() as gave_up:
                await start(gave_up, resume_session_id=session_id)
            assert (await heartbeat(newer))["type"] == "heartbeat_ack"
        async with first.connect() as back:
            await start(back, resume_session_id=session_id)
            assert (await heartbeat(back))["type"] == "heartbeat_ack"


async def test_a_session_that_comes_back_to_a_gateway_does_not_go_backwards(
    gateway_settings: Settings,
) -> None:
    """The first one still knows it as it left: without what another one answered since."""
    async with two_gateways(gateway_settings) as (first, second):
        async with first.connect() as socket:
            session_id = (await start(socket))["session_id"]
            await send(socket, frame(0))
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"
        async with second.connect() as socket:
            await start(socket, resume_session_id=session_id)
            await send(socket, frame(1))
            assert (await heartbeat(socket))["type"] == "heartbeat_ack"  # the frame is stored
            await second.bus.write(Publish(chosen(session_id, 1, gateway_id="other")))
            assert (await receive(socket))["frame_id"] == 1
        async with first.connect() as socket:
            assert (await start(socket, resume_session_id=session_id))["last_frame_id"] == 1
            await first.bus.write(Publish(chosen(session_id, 0, gateway_id="one")))

            async def refused() -> bool:
                return (await first.bus.ledger()).get("out_of_order", 0) == 1

            await eventually(refused)
