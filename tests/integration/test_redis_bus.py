"""What only a real broker can refuse, and what that means for those who write beside."""

from __future__ import annotations

import asyncio

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from sgaps.bus import Count, Operation, Push, Put, RedisBus
from sgaps.errors import BusFull, BusUnavailable
from sgaps.settings import Settings


async def test_a_write_that_fails_alone_fails_alone(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus)
    await bus.write(Push("list", b"1", 9, 9))
    writes: list[Operation] = [Count("good"), Put("list", {"a": b"1"}, 9), Count("good")]
    outcomes = await asyncio.gather(*map(bus.write, writes), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        redis_errors.ResponseError,
        type(None),
    ]
    assert await bus.ledger() == {"good": 2}
    await bus.close()


async def test_a_full_broker_refuses_all_that_waited(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus)
    async with Redis.from_url(gateway_settings.bus.url) as redis:
        await redis.config_set("maxmemory", "1")
        try:
            writes = [bus.write(Push(f"list{i}", b"1", 9, 9), Count("x")) for i in range(10)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        finally:
            await redis.config_set("maxmemory", "0")
        assert {type(outcome) for outcome in outcomes} == {BusFull}
        assert await redis.keys() == []
    await bus.write(Count("x"))
    assert await bus.ledger() == {"x": 1}
    await bus.close()


async def test_without_a_broker_every_writer_hears_it(gateway_settings: Settings) -> None:
    nowhere = gateway_settings.bus.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    bus = RedisBus(nowhere)
    outcomes = await asyncio.gather(
        *(bus.write(Count("x")) for _ in range(5)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {BusUnavailable}
    with pytest.raises(BusUnavailable):
        await bus.write(Count("x"))
    await bus.close()
