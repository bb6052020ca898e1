"""A member of a consumer group: reads, retries, claims what the dead left, buries the poisoned.

A handler gets a batch of decoded deliveries and returns what is to be written; the consumer
writes that together with the acknowledgement. An entry whose handler fails, or kills its
process, stays pending; after `min_idle_secs` somebody claims it and tries it alone, so that one
poisoned entry cannot take its neighbours along; when `max_deliveries` were used up it goes to
`sgaps:dead`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sgaps.bus.base import Ack, Bus, Count, Entry, Operation, PendingEntry, Publish
from sgaps.errors import BusError, MessageError
from sgaps.messages import DeadLetter, Message
from sgaps.settings import BusSettings

log = logging.getLogger(__name__)

MAX_DEAD_LETTERS = 10_000
BUS_RETRY_SECS = 0.5
CLAIMS_PER_TURN = 64


class SessionMessage(Protocol):
    """A message that belongs to a session and is ordered in it."""

    @property
    def session_id(self) -> str: ...
    @property
    def frame_id(self) -> int: ...


M = TypeVar("M", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery(Generic[M]):
    """One decoded entry."""

    entry_id: str
    message: M


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a handler wants written, and the entries it could not do (they are tried again)."""

    operations: Sequence[Operation] = ()
    failed: frozenset[str] = field(default_factory=frozenset)


Handler = Callable[[Sequence[Delivery[M]]], Awaitable[Outcome]]
Policy = Callable[[Sequence[Delivery[M]]], tuple[list[Delivery[M]], list[Delivery[M]]]]


def keep_every(
    deliveries: Sequence[Delivery[M]],
) -> tuple[list[Delivery[M]], list[Delivery[M]]]:
    """The recorder's policy: nothing is superseded."""
    return list(deliveries), []


def keep_newest(
    deliveries: Sequence[Delivery[M]],
) -> tuple[list[Delivery[M]], list[Delivery[M]]]:
    """The policy of inference: the newest frame of each session; the rest is superseded."""
    newest: dict[str, Delivery[M]] = {}
    for delivery in deliveries:
        best = newest.get(_session(delivery))
        if best is None or _frame(delivery) >= _frame(best):
            newest[_session(delivery)] = delivery
    kept_ids = {delivery.entry_id for delivery in newest.values()}
    return list(newest.values()), [d for d in deliveries if d.entry_id not in kept_ids]


def _session(delivery: Delivery[M]) -> str:
    return str(getattr(delivery.message, "session_id"))  # noqa: B009 - see SessionMessage


def _frame(delivery: Delivery[M]) -> int:
    return int(getattr(delivery.message, "frame_id"))  # noqa: B009


class Consumer(Generic[M]):
    """Runs a handler over the entries of one stream that its group is given."""

    def __init__(
        self,
        bus: Bus,
        message_type: type[M],
        *,
        group: str,
        name: str,
        settings: BusSettings,
        handle: Handler[M],
        policy: Policy[M] = keep_every,
    ) -> None:
        self._bus = bus
        self._type = message_type
        self._stream = message_type.STREAM
        self._group = group
        self._name = name
        self._settings = settings
        self._handle = handle
        self._policy = policy
        self._next_claim_at_secs = 0.0
        self.last_turn_at_secs = time.monotonic()
        """When the loop last turned: what readiness looks at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; a missing broker is waited for."""
        started = waiting = False
        while not stop.is_set():
            try:
                if not started:
                    await self._bus.ensure_group(self._stream, self._group)
                    await self._finish_own(stop)
                    started = True
                await self.turn()
                if waiting:
                    log.info("%s: the broker is back", self._group)
                waiting = False
            except BusError as error:
                if not waiting:
                    log.warning("%s: waiting for the broker: %s", self._group, error)
                waiting = True
                await asyncio.sleep(BUS_RETRY_SECS)

    async def turn(self) -> None:
        """Claim if it is time to, then read one batch and handle it."""
        if time.monotonic() >= self._next_claim_at_secs:
            self._next_claim_at_secs = time.monotonic() + self._settings.min_idle_secs / 4
            await self._retry(await self._pending(self._settings.min_idle_secs))
        entries = await self._bus.read(
            self._stream,
            self._group,
            self._name,
            count=self._settings.batch_size,
            block_secs=self._settings.block_secs,
        )
        self.last_turn_at_secs = time.monotonic()
        deliveries = [d for entry in entries if (d := await self._decode(entry))]
        kept, superseded = self._policy(deliveries)
        await self._release(superseded)
        if kept:
            await self._attempt(kept)

    async def _finish_own(self, stop: asyncio.Event) -> None:
        """What this very consumer had in hand when it died is nobody else's: no need to wait."""
        while not stop.is_set():
            own = [p for p in await self._pending(0.0) if p.consumer == self._name]
            unfinished = await self._retry(own, min_idle_secs=0.0)
            if len(own) < CLAIMS_PER_TURN or unfinished:
                return

    async def _pending(self, min_idle_secs: float) -> list[PendingEntry]:
        return await self._bus.pending(
            self._stream, self._group, count=CLAIMS_PER_TURN, min_idle_secs=min_idle_secs
        )

    async def _retry(
        self, pending: Sequence[PendingEntry], *, min_idle_secs: float | None = None
    ) -> int:
        """Claim entries one by one, so that a deadly one uses up only its own deliveries."""
        idle_secs = self._settings.min_idle_secs if min_idle_secs is None else min_idle_secs
        unfinished = 0
        for row in pending:
            entry = await self._bus.claim(
                self._stream, self._group, self._name, row.entry_id, min_idle_secs=idle_secs
            )
            self.last_turn_at_secs = time.monotonic()
            if entry is None:
                await self._count_if_lost(row)
            elif row.deliveries >= self._settings.max_deliveries:
                await self._bury(entry, row.deliveries, "its consumers failed or died")
            elif delivery := await self._decode(entry):
                unfinished += not await self._try([delivery])
        return unfinished

    async def _count_if_lost(self, row: PendingEntry) -> None:
        if not await self._bus.exists(self._stream, row.entry_id):
            log.error("%s: %s was trimmed while pending", self._group, row.entry_id)
            await self._bus.write(
                Ack(self._stream, self._group, [row.entry_id]), Count(f"lost_{self._group}")
            )

    async def _decode(self, entry: Entry) -> Delivery[M] | None:
        try:
            return Delivery(entry_id=entry.entry_id, message=self._type.decode(entry.data))
        except MessageError as error:
            await self._bury(entry, 1, str(error))
            return None

    async def _release(self, superseded: Sequence[Delivery[M]]) -> None:
        if superseded:
            ids = [delivery.entry_id for delivery in superseded]
            await self._bus.write(
                Ack(self._stream, self._group, ids), Count("superseded", len(ids))
            )

    async def _attempt(self, deliveries: Sequence[Delivery[M]]) -> None:
        """Try the batch; where it fails, each alone, so that the innocent pass."""
        if await self._try(deliveries) or len(deliveries) == 1:
            return
        for delivery in deliveries:
            await self._try([delivery])

    async def _try(self, deliveries: Sequence[Delivery[M]]) -> bool:
        try:
            outcome = await self._handle(deliveries)
        except BusError:
            raise
        except Exception:
            log.exception("%s: failed on %s", self._group, [d.entry_id for d in deliveries][:8])
            return False
        await self._commit(deliveries, outcome)
        return not outcome.failed

    async def _commit(self, deliveries: Iterable[Delivery[M]], outcome: Outcome) -> None:
        done = [d.entry_id for d in deliveries if d.entry_id not in outcome.failed]
        acks = [Ack(self._stream, self._group, done)] if done else []
        if acks or outcome.operations:
            await self._bus.write(*outcome.operations, *acks)

    async def _bury(self, entry: Entry, deliveries: int, reason: str) -> None:
        log.error("%s: %s goes to %s: %s", self._group, entry.entry_id, DeadLetter.STREAM, reason)
        letter = DeadLetter(
            source_stream=self._stream,
            group=self._group,
            entry_id=entry.entry_id,
            deliveries=deliveries,
            reason=reason,
            data=entry.data,
        )
        await self._bus.write(
            Publish(letter, MAX_DEAD_LETTERS),
            Count(f"dead_{self._group}"),
            Ack(self._stream, self._group, [entry.entry_id]),
        )
