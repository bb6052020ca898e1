"""A ledger that was lost, whole or its last moments; over both buses."""

from __future__ import annotations

import pytest

from contract.conftest import flush
from sgaps.bus import (
    Bus,
    Count,
    LedgerGuard,
    MemoryBus,
    in_flight,
)


async def test_a_ledger_that_was_lost_is_written_again_with_the_loss(
    bus: Bus, request: pytest.FixtureRequest
) -> None:
    guard = LedgerGuard(bus)
    await bus.write(Count("received", 10), Count("delivered", 6), Count("superseded"))
    await guard.look()
    await flush(bus, "" if isinstance(bus, MemoryBus) else request.getfixturevalue("broker_url"))
    await bus.write(Count("received", 2))
    await guard.look()
    await guard.look()
    ledger = await bus.ledger()
    assert ledger == {"received": 12, "delivered": 6, "superseded": 1, "lost_flush": 3}
    assert in_flight(ledger) == 2


@pytest.mark.parametrize(
    ("gone", "after", "on_their_way"),
    [
        # Two frames that came and were answered: gone as if they had never been, but counted.
        ({"received": 2, "delivered": 2}, {"received": 10, "delivered": 6, "superseded": 1}, 3),
        # Two that came last and were on their way: lost.
        ({"received": 2}, {"received": 10, "delivered": 6, "superseded": 1, "lost_flush": 2}, 1),
        # One that came, three that were answered: two of them are on their way again.
        ({"received": 1, "delivered": 3}, {"received": 10, "delivered": 4, "superseded": 1}, 5),
    ],
)
async def test_a_ledger_that_lost_its_last_moments_is_not_counted_twice(
    bus: Bus, gone: dict[str, int], after: dict[str, int], on_their_way: int
) -> None:
    guard = LedgerGuard(bus)
    await bus.write(Count("received", 10), Count("delivered", 6), Count("superseded"))
    await guard.look()
    await bus.write(*(Count(name, -amount) for name, amount in gone.items()))
    before = in_flight(await bus.ledger())
    await guard.look()
    await guard.look()
    assert await bus.ledger() == after
    assert in_flight(after) == on_their_way == before
