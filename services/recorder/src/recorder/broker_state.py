"""What belongs to the broker, looked at once a second by the one recorder there is, for Prometheus.

The lag that XINFO tells is not used: it is absent or wrong after trimming. The age of what waits
follows from the newest entry that a group was given and the one behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from prometheus_client import REGISTRY, CollectorRegistry

from sgaps.bus import Bus, LedgerGuard, in_flight, published_at_secs
from sgaps.bus.ledger import COLUMNS
from sgaps.errors import BusFull
from sgaps.messages import (
    CoordinatesChosen,
    DeadLetter,
    FrameAccepted,
    FrameReconstructed,
    SegmentSealed,
)
from sgaps.metrics.broker import BrokerCollector, BrokerState, GroupState
from sgaps.service import Heartbeat, LiveServices

SERVICES = ("gateway", "reconstructor", "sampler", "recorder", "trainer")
READY, NOT_READY = "ready", "not_ready"
GROUPS: Mapping[str, Sequence[str]] = {
    FrameAccepted.STREAM: ("reconstructor", "recorder"),
    FrameReconstructed.STREAM: ("sampler",),
    SegmentSealed.STREAM: ("trainer",),
}
"""Who reads each stream, beside the streams of the gateways."""


def exposed(bus: Bus, registry: CollectorRegistry = REGISTRY) -> Callable[[], Awaitable[None]]:
    """Expose the broker's state; what is returned looks at it anew.

    The ledger is guarded first: one that starts again would be taken for a counter's reset, and all
    that was ever dropped for dropped just now.
    """
    collector, living, guard = BrokerCollector(), LiveServices(bus), LedgerGuard(bus)
    registry.register(collector)

    async def turn() -> None:
        is_guarded = True
        try:
            await guard.look()
        except BusFull:  # of the ledger nothing is told then, of the rest all
            is_guarded = False
        state = await look(bus, await living.look())
        collector.state = state if is_guarded else replace(state, ledger={})

    return turn


async def look(bus: Bus, services: Sequence[Heartbeat]) -> BrokerState:
    """The state now. Raises BusError."""
    readers = {**GROUPS, **dict.fromkeys(coordinate_streams(services), ("gateway",))}
    counts = await bus.ledger()
    return BrokerState(
        ledger={**dict.fromkeys(COLUMNS, 0), **counts},
        in_flight=in_flight(counts),
        lengths={stream: await bus.length(stream) for stream in readers},
        groups={
            (stream, group): await group_state(bus, stream, group)
            for stream, groups in readers.items()
            for group in groups
        },
        dead_letters=await bus.length(DeadLetter.STREAM),
        services=by_readiness(services),
    )


async def group_state(bus: Bus, stream: str, group: str) -> GroupState:
    """How far a group is; one that was never created was given nothing. Raises BusError."""
    found = (await bus.groups(stream)).get(group)
    delivered_id = found.delivered_id if found else bus.START
    waiting = await bus.tail(stream, delivered_id, count=1, block_secs=0)
    age_secs = 0.0
    if waiting:
        age_secs = await bus.now_secs() - published_at_secs(waiting[0].entry_id)
    return GroupState(
        pending=found.pending if found else 0, oldest_undelivered_secs=max(0.0, age_secs)
    )


def coordinate_streams(services: Iterable[Heartbeat]) -> list[str]:
    """The streams of the gateways that live; one that is gone for good leaves its own behind."""
    ids = {s.status.get("gateway_id") for s in services if s.service == "gateway"}
    return sorted(CoordinatesChosen.stream_of(str(i)) for i in ids if i is not None)


def by_readiness(services: Iterable[Heartbeat]) -> dict[tuple[str, str], int]:
    """How many of each service are ready, and how many are not; 0 where there is none."""
    found = Counter((s.service, READY if s.ready else NOT_READY) for s in services)
    return {(name, state): found[name, state] for name in SERVICES for state in (READY, NOT_READY)}
