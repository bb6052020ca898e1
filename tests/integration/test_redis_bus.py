"""What only a real broker can refuse, and what that means for those who write beside."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from proxy import Proxy
from sgaps.bus import (
    Ack,
    Consumer,
    Count,
    Delivery,
    Operation,
    Outcome,
    Publish,
    Push,
    Put,
    RedisBus,
    Trimmer,
    connection,
    trim_behind,
)
from sgaps.bus.connection import connect
from sgaps.bus.redis_trips import TRIPS_AT_ONCE, WRITES_TOGETHER, Lines
from sgaps.errors import BusError, BusFull, BusUnavailable
from sgaps.messages import CheckpointPublished, DeadLetter
from sgaps.settings import Settings
from sgaps_cli import broker
from waiting import PATIENCE_SECS


async def test_a_write_that_fails_alone_fails_alone(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus)
    await bus.write(Push("list", b"1", 9, 9))
    writes: list[Operation] = [Count("good"), Put("list", {"a": b"1"}, 9), Count("good")]
    outcomes = await asyncio.gather(*map(bus.write, writes), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        BusError,
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


async def test_who_was_there_when_the_broker_became_full_is_there(
    gateway_settings: Settings,
) -> None:
    """Else every service is missed, and nobody looks at the broker's memory."""
    bus = await bus_with_letters(gateway_settings)
    await bus.write(Put("heartbeat", {"a": b"1"}, 60))
    async with full_broker(gateway_settings.bus.url, over_bytes=1 << 20):
        with pytest.raises(BusFull):
            await bus.write(Put("heartbeat", {"a": b"2"}, 9))
        await bus.write(Put("heartbeat", {}, 600))
        assert await bus.hashes(["heartbeat"]) == [{"a": b"1"}]
        async with Redis.from_url(gateway_settings.bus.url) as redis:
            assert await redis.ttl("heartbeat") > 60
    await bus.close()


async def test_those_who_look_take_no_reader_its_connection(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)
    bus = RedisBus(gateway_settings.bus)
    await bus.ensure_group("s", "g")
    looks = [asyncio.create_task(bus.tail("t", bus.START, count=1, block_secs=3)) for _ in range(4)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        assert await bus.read("s", "g", "n", count=1, block_secs=0) == []
    await asyncio.gather(*looks)
    await bus.close()


async def test_a_full_broker_costs_answers_but_never_stops_a_consumer(
    gateway_settings: Settings,
) -> None:
    bus = RedisBus(gateway_settings.bus)
    for frame_id in range(2):
        await bus.publish(announcement(frame_id))

    async def answer(batch: Sequence[Delivery[CheckpointPublished]]) -> Outcome:
        return Outcome(answers={d.entry_id: [Publish(letter()), Count("answered")] for d in batch})

    consumer = Consumer(
        bus,
        CheckpointPublished,
        group="g",
        name="n",
        settings=gateway_settings.bus.model_copy(update={"batch_size": 1}),
        handle=answer,
    )
    await bus.ensure_group(CheckpointPublished.STREAM, "g")
    async with Redis.from_url(gateway_settings.bus.url) as redis:
        await redis.config_set("maxmemory", "1")
        try:
            await consumer.turn()
            assert await bus.pending("sgaps:checkpoints", "g", count=9, min_idle_secs=0) == []
            assert await bus.ledger() == {}
        finally:
            await redis.config_set("maxmemory", "0")
    await consumer.turn()
    stop = asyncio.Event()
    stop.set()
    await consumer.run(stop)
    assert await bus.ledger() == {"answered": 2, "broker_full": 1}
    assert await bus.length(DeadLetter.STREAM) == 1
    await bus.close()


@asynccontextmanager
async def full_broker(url: str, over_bytes: int) -> AsyncIterator[None]:
    """Above its limit by so much, as what was read by consumers brings it."""
    async with Redis.from_url(url) as redis:
        used_bytes = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used_bytes - over_bytes)
        try:
            yield
        finally:
            await redis.config_set("maxmemory", "0")


async def bus_with_letters(settings: Settings) -> RedisBus:
    """A hundred of them, five megabytes, wait for a group."""
    bus = RedisBus(settings.bus)
    await bus.ensure_group(DeadLetter.STREAM, "g")
    for _ in range(100):
        await bus.publish(letter(b"x" * 50_000))
    return bus


async def test_a_consumer_that_starts_while_the_broker_is_full_makes_room(
    gateway_settings: Settings,
) -> None:
    bus = await bus_with_letters(gateway_settings)

    async def done(batch: Sequence[Delivery[DeadLetter]]) -> Outcome:
        return Outcome(answers={d.entry_id: [Count("done")] for d in batch})

    consumer = Consumer(
        bus, DeadLetter, group="g", name="n", settings=gateway_settings.bus, handle=done
    )
    stop = asyncio.Event()
    async with full_broker(gateway_settings.bus.url, over_bytes=1 << 20):
        with pytest.raises(BusFull):
            await bus.ensure_group(DeadLetter.STREAM, "g")
        tasks = [
            asyncio.create_task(consumer.run(stop)),
            asyncio.create_task(trim_behind(bus, DeadLetter.STREAM, "g", stop)),
        ]
        async with asyncio.timeout(PATIENCE_SECS):
            while await bus.length(DeadLetter.STREAM):
                await asyncio.sleep(0.05)
        await bus.publish(letter())
        stop.set()
        await asyncio.gather(*tasks)
    await bus.close()


async def test_what_waits_too_long_expires_on_a_full_broker_too(
    gateway_settings: Settings,
) -> None:
    bus = await bus_with_letters(gateway_settings)
    await asyncio.sleep(0.1)
    impatient = gateway_settings.bus.model_copy(update={"max_backlog_secs": 0.05})
    async with full_broker(gateway_settings.bus.url, over_bytes=1 << 20):
        assert await Trimmer(bus, impatient).trim_waiting(DeadLetter.STREAM, "g") == 100
        assert (await bus.length(DeadLetter.STREAM), await bus.ledger()) == (0, {"expired": 100})
    await bus.close()


async def test_a_refused_write_takes_nobody_along(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus)
    await bus.publish(announcement(0))
    await bus.ensure_group(CheckpointPublished.STREAM, "g")
    (entry,) = await bus.read(CheckpointPublished.STREAM, "g", "n", count=1, block_secs=0)
    async with Redis.from_url(gateway_settings.bus.url) as redis:
        await redis.config_set("maxmemory", "1")
        try:
            ack = Ack(CheckpointPublished.STREAM, "g", [entry.entry_id])
            outcomes = await asyncio.gather(
                bus.write(Count("x")), bus.write(Count("x")), bus.write(ack), return_exceptions=True
            )
        finally:
            await redis.config_set("maxmemory", "0")
    assert [type(outcome) for outcome in outcomes] == [BusFull, BusFull, type(None)]
    await bus.close()


async def test_a_broker_that_has_forgotten_the_script_is_told_it_again(
    gateway_settings: Settings,
) -> None:
    """Writes that it did not know are done once, whatever goes with them."""
    bus = RedisBus(gateway_settings.bus)
    async with Redis.from_url(gateway_settings.bus.url) as redis:
        for expected in (1, 2):
            await redis.script_flush()
            await asyncio.gather(
                bus.write(Count("a"), Count("both")),
                bus.write(Count("alone")),
                bus.write(Count("b"), Count("both")),
            )
            assert await bus.ledger() == {
                "a": expected,
                "b": expected,
                "alone": expected,
                "both": 2 * expected,
            }
    await bus.close()


async def test_writes_that_come_at_once_go_by_two_connections(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus.model_copy(update={"client_name": "writer"}))
    writes = 3 * WRITES_TOGETHER
    await asyncio.gather(*(bus.write(Count("x")) for _ in range(writes)))
    assert await bus.ledger() == {"x": writes}
    async with Redis.from_url(gateway_settings.bus.url) as redis:
        names = [client["name"] for client in await redis.client_list()]
    assert names.count("writer") == TRIPS_AT_ONCE
    await bus.close()


async def test_a_writer_that_gives_up_costs_the_others_nothing(gateway_settings: Settings) -> None:
    bus = RedisBus(gateway_settings.bus)
    writes = [asyncio.create_task(bus.write(Count("x"))) for _ in range(9)]
    await asyncio.sleep(0)  # all wait
    writes[0].cancel()
    async with asyncio.timeout(PATIENCE_SECS):
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[1:]] == [type(None)] * 8
    await bus.write(Count("x"))
    assert await bus.ledger() == {"x": len(writes) + 1}  # it had set out, as a lost reply has
    await bus.close()


async def test_a_refused_question_leaves_the_next_its_own_answers(
    gateway_settings: Settings,
) -> None:
    """On one connection: the pool would not give it to another with answers left on it."""
    bus = RedisBus(gateway_settings.bus)
    await bus.write(Push("list", b"1", 9, 9), Put("hash", {"a": b"2"}, 9))
    client = connect(gateway_settings.bus, socket_timeout_secs=None)
    lines = Lines(client.connection_pool, nobody_took_over)
    questions = [("LRANGE", "hash", 0, 9), ("LRANGE", "list", 0, 9)]
    refused, answered = await lines.trip(questions, timeout_secs=5)
    assert isinstance(refused, redis_errors.ResponseError)
    assert answered == [b"1"]
    assert await lines.trip([("HGETALL", "hash")], timeout_secs=5) == [[b"a", b"2"]]
    await client.aclose()
    with pytest.raises(BusError, match="WRONGTYPE"):
        await bus.lists(["hash", "list"], count=9)
    assert await bus.lists(["list"], count=9) == [[b"1"]]
    assert await bus.hashes(["hash"]) == [{"a": b"2"}]
    await bus.close()


async def test_who_waits_for_a_connection_gets_one_that_comes_back(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 2)
    client = connect(gateway_settings.bus, socket_timeout_secs=None)
    lines = Lines(client.connection_pool, nobody_took_over)
    async with asyncio.timeout(PATIENCE_SECS):
        trips = [lines.trip([("ECHO", n)], timeout_secs=PATIENCE_SECS) for n in range(20)]
        assert await asyncio.gather(*trips) == [[b"%d" % n] for n in range(20)]
    await client.aclose()


async def test_a_command_that_cannot_be_packed_lets_nobody_wait_for_ever(
    gateway_settings: Settings,
) -> None:
    """A mistake of ours costs those that went with it, with the mistake itself; not the next."""
    bus = RedisBus(gateway_settings.bus)
    lone_surrogate = "\ud800"
    writes = [
        bus.write(Count(lone_surrogate if i == 70 else "x")) for i in range(3 * WRITES_TOGETHER)
    ]
    async with asyncio.timeout(PATIENCE_SECS):
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        await bus.write(Count("y"))
    wrong = [outcome for outcome in outcomes if outcome is not None]
    assert {type(outcome) for outcome in wrong} == {UnicodeEncodeError}
    assert await bus.ledger() == {"x": len(writes) - len(wrong), "y": 1}
    await bus.close()


async def test_the_bus_speaks_to_a_socket_in_the_file_system(
    tmp_path: Path, gateway_settings: Settings
) -> None:
    path = str(tmp_path / "socket")
    started = broker.start(
        broker.find_program(), tmp_path, log_file=tmp_path / "log", further={"unixsocket": path}
    )
    bus = RedisBus(gateway_settings.bus.model_copy(update={"url": f"unix://{path}"}))
    await bus.write(Count("x"))
    assert await bus.ledger() == {"x": 1}
    assert await bus.length("stream") == 0
    await bus.close()
    started.stop()


async def nobody_took_over() -> None:
    raise AssertionError("this broker takes writes")


async def test_a_broker_that_was_demoted_is_left(gateway_settings: Settings) -> None:
    """It keeps its connections, and another one may have its name by now."""
    bus = RedisBus(gateway_settings.bus)

    async def ask_all() -> None:
        await bus.write(Count("x"))
        await bus.read("stream", "g", "n", count=1, block_secs=0.01)
        await bus.tail("stream", "0-0", count=1, block_secs=0.01)
        await bus.length("stream")

    async with Redis.from_url(gateway_settings.bus.url, single_connection_client=True) as redis:
        others = {row["id"] for row in await redis.client_list()}

        async def bus_connections() -> set[str]:
            return {row["id"] for row in await redis.client_list()} - others

        await ask_all()
        before = await bus_connections()
        await redis.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(BusUnavailable, match="read only"):
                await bus.write(Count("x"))
        finally:
            await redis.replicaof("NO", "ONE")
        await ask_all()
        assert len(before) == 4
        assert before.isdisjoint(await bus_connections())
    assert await bus.ledger() == {"x": 2}
    await bus.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda bus: bus.write(Count("x")),
        lambda bus: bus.read("stream", "g", "n", count=1, block_secs=0),
        lambda bus: bus.ensure_group("stream", "g"),
        lambda bus: bus.trim("stream", "0-1"),
    ],
    ids=["write", "read", "ensure_group", "trim"],
)
async def test_whatever_a_demoted_broker_refuses_the_bus_goes_on_at_the_one_that_took_over(
    ask: Callable[[RedisBus], Awaitable[object]], gateway_settings: Settings
) -> None:
    """Connections that were made stay with the demoted one, whoever has its address by now."""
    told: list[int] = []
    async with demoted_then_promoted(told) as port:
        url = f"redis://127.0.0.1:{port}/0"
        bus = RedisBus(gateway_settings.bus.model_copy(update={"url": url}))
        await bus.ping()
        await bus.length("stream")
        assert told == [0, 0]
        with pytest.raises(BusUnavailable):
            await ask(bus)
        await bus.ping()
        await bus.length("stream")
        assert set(told[-2:]) == {1}
        await bus.close()


@asynccontextmanager
async def demoted_then_promoted(told: list[int]) -> AsyncIterator[int]:
    """The port of a broker that refuses changes; once it has, new connections reach another.

    `told` gets 0 for each command that came to the first, 1 for the second.
    """
    refused = False
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        open_ones.append(writer)
        promoted = int(refused)
        while sent := await reader.read(65536):
            for command in re.findall(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)", sent):
                if command in {b"PING", b"XLEN"}:
                    told.append(promoted)
                    writer.write(b"+PONG\r\n" if command == b"PING" else b":0\r\n")
                elif command == b"CLIENT":
                    writer.write(b"+OK\r\n")
                else:
                    refused = True
                    writer.write(b"-READONLY You can't write against a read only replica.\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in open_ones:
        writer.close()


async def test_a_connection_in_use_while_a_broker_is_demoted_is_left_afterwards(
    gateway_settings: Settings,
) -> None:
    bus = RedisBus(gateway_settings.bus)
    async with Redis.from_url(gateway_settings.bus.url, single_connection_client=True) as redis:
        others = {row["id"] for row in await redis.client_list()}
        await bus.ping()
        before = {row["id"] for row in await redis.client_list()} - others
        await redis.client_pause(300)
        pinging = asyncio.create_task(bus.ping())
        await asyncio.sleep(0.1)
        await bus._leave_connections()  # as a refused heartbeat does beside it
        await pinging
        await bus.ping()
        after = {row["id"] for row in await redis.client_list()} - others
    assert len(before) == 1
    assert before.isdisjoint(after)
    await bus.close()


async def test_a_key_that_a_scan_repeats_is_there_once(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may while the broker makes its table larger."""
    bus = RedisBus(gateway_settings.bus)

    async def repeating(*_: object, **__: object) -> AsyncIterator[bytes]:
        for key in (b"b", b"a", b"b"):
            yield key

    monkeypatch.setattr(Redis, "scan_iter", repeating)
    assert await bus.keys("") == ["a", "b"]
    await bus.close()


def announcement(number: int) -> CheckpointPublished:
    return CheckpointPublished(checkpoint_key="k", model_version=f"v{number}", val_psnr_db=1.0)


def letter(data: bytes = b"") -> DeadLetter:
    return DeadLetter(
        source_stream="s", group="g", entry_id="1-1", deliveries=1, reason="", data=data
    )


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


async def test_all_writers_hear_of_a_broker_that_falls_silent(
    gateway_settings: Settings,
) -> None:
    """Those whose trip it was, and those that waited behind them."""
    proxy = Proxy(urlsplit(gateway_settings.bus.url).port or 0, slow_secs=0)
    await proxy.start()
    changes = {"url": f"redis://127.0.0.1:{proxy.port}/0", "socket_timeout_secs": 0.5}
    bus = RedisBus(gateway_settings.bus.model_copy(update=changes))
    await bus.write(Count("x"))
    proxy.hurt("half-open")
    started_at_secs = time.monotonic()
    writes = (bus.write(Count("x")) for _ in range(16 * WRITES_TOGETHER))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BusUnavailable}
    assert "nothing in 0.5 s" in str(outcomes[0])
    assert time.monotonic() - started_at_secs < 6 * 0.5  # one after the other it would be 8
    proxy.heal()
    await bus.write(Count("y"))
    assert (await bus.ledger())["y"] == 1
    await bus.close()
    await proxy.stop()


ASKS: dict[str, Callable[[RedisBus], Awaitable[object]]] = {
    "client": partial(RedisBus.length, stream="s"),
    "trip": RedisBus.ledger,
    "read": partial(RedisBus.read, stream="s", group="g", consumer="c", count=1, block_secs=0.05),
    "look": partial(RedisBus.tail, stream="s", after_id="0-0", count=1, block_secs=0.05),
}
"""One for each kind of connections that a bus has."""


@pytest.mark.parametrize("found_by", ASKS)
async def test_connections_that_went_dead_together_cost_one_time_out(
    found_by: str, gateway_settings: Settings
) -> None:
    """Of each kind some lie idle when the network begins to swallow all; one finds out for them."""
    proxy = Proxy(urlsplit(gateway_settings.bus.url).port or 0, slow_secs=0)
    await proxy.start()
    changes = {"url": f"redis://127.0.0.1:{proxy.port}/0", "socket_timeout_secs": 1.0}
    bus = RedisBus(gateway_settings.bus.model_copy(update=changes))
    await bus.ensure_group("s", "g")
    of_all_kinds = 4 * list(ASKS.values())
    await asyncio.gather(*(ask(bus) for ask in of_all_kinds))
    proxy.hurt("half-open")
    with pytest.raises(BusUnavailable):
        await ASKS[found_by](bus)
    proxy.heal()
    await asyncio.gather(*(ask(bus) for ask in of_all_kinds))
    await bus.close()
    await proxy.stop()


async def test_a_death_costs_each_connection_one_new_one_under_load(
    gateway_settings: Settings,
) -> None:
    """Those that are in use meanwhile are well, and what they bring is kept."""
    bus = RedisBus(gateway_settings.bus.model_copy(update={"client_name": "loaded"}))
    failures: list[BusUnavailable] = []
    is_over = asyncio.Event()

    async def ask_on(ask: Callable[[RedisBus], Awaitable[object]]) -> None:
        while not is_over.is_set():
            try:
                await ask(bus)
            except BusUnavailable as error:
                failures.append(error)
            await asyncio.sleep(0.001)

    askers = [asyncio.create_task(ask_on(ASKS[kind])) for kind in 8 * ["client", "trip"]]
    async with Redis.from_url(gateway_settings.bus.url) as redis:

        async def made() -> int:
            return int((await redis.info("stats"))["total_connections_received"])

        await asyncio.sleep(0.5)
        before = await made()
        ours = [row["id"] for row in await redis.client_list() if row["name"] == "loaded"]
        for one in ours[:: len(ours) // 2][:2]:
            await redis.client_kill_filter(_id=one)
        await asyncio.sleep(1)
        after = await made()
    is_over.set()
    await asyncio.gather(*askers)
    await bus.close()
    assert len(failures) <= 4
    assert after - before <= 2 * len(askers)
