"""A member of a consumer group: reads, retries, claims what the dead left, buries the poisoned.

A handler gets a batch of decoded deliveries and returns what is to be written; the consumer
writes that together with the acknowledgement. An entry whose handler fails, or kills its
process, stays pending; after `min_idle_secs` somebody claims it and tries it alone, so that one
poisoned entry cannot take its neighbours along; when `max_deliveries` were used up it goes to
`sgaps:dead`. A broker that is away uses up nothing: what is in hand waits for it, and since an
answer is written only with an acknowledgement that counts, it may be written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sgaps.bus.acknowledging import Acknowledger
from sgaps.bus.base import (
    Bus,
    Count,
    Effect,
    Entry,
    PendingEntry,
    Put,
    published_at_secs,
)
from sgaps.bus.failures import Failures
from sgaps.bus.holding import InHand
from sgaps.bus.ledger import unless_probe
from sgaps.bus.policy import Delivery, KeepEvery, M, Policy
from sgaps.bus.reading import ReadSize
from sgaps.bus.vain import InVain
from sgaps.errors import BusError, BusFull, BusRefused, BusUnavailable, MessageError
from sgaps.logs import ids_if_any
from sgaps.messages import DeadLetter
from sgaps.metrics import ConsumerMeter
from sgaps.settings import BusSettings

log = logging.getLogger(__name__)

BUS_RETRY_SECS = 0.5
CLAIM_EVERY_SECS = 1.0
CLAIMS_PER_TURN = 64
MAX_READING_SECS = 1.0
"""Of a turn: who cannot read as fast as entries come does something now and then all the same."""

T = TypeVar("T")
_PASSING = (BusUnavailable, BusFull, BusRefused)
"""Errors of the broker, not of an entry: they are waited out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a handler wants written, and the entries it could not do (they are tried again)."""

    answers: Mapping[str, Sequence[Effect]] = field(default_factory=dict)
    """Entry id → what is written if its acknowledgement counts: once, however often it is done."""
    marks: Sequence[Put] = ()
    """What is written in any case, where a broker is full later: twice must do no harm, and nobody
    else may write these fields."""
    failed: frozenset[str] = field(default_factory=frozenset)


Handler = Callable[[Sequence[Delivery[M]]], Awaitable[Outcome]]


async def nothing_to_prepare(_: object) -> None:
    """Where handling an entry takes no longer the first time."""


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
        prepare: Callable[[M], Awaitable[None]] = nothing_to_prepare,
        policy: Policy[M] | None = None,
        stream: str | None = None,
        stage: str | None = None,
    ) -> None:
        """`stream` is for messages that have one for each of their readers.

        `prepare` does what takes long for an entry before it is claimed: a process that is killed
        meanwhile has used up none of the entry's deliveries.

        `stage` is what the metrics call this work; without it nobody asks how long entries waited.
        """
        self._bus = bus
        self._type = message_type
        self._stream = stream or message_type.STREAM
        self._group = group
        self._name = name
        self._settings = settings
        self._handle = handle
        self._prepare = prepare
        self._policy: Policy[M] = policy or KeepEvery()
        self._in_hand = InHand(bus, self._stream, group, name, min_idle_secs=settings.min_idle_secs)
        self._in_vain = InVain()
        self._meter = ConsumerMeter(group, stage)
        self._acknowledger = Acknowledger(bus, self._stream, group)
        self._stop = asyncio.Event()
        self._read_size = ReadSize(settings.batch_size)
        self._next_claim_at_secs = 0.0
        self.last_turn_at_secs = time.monotonic()
        """When the loop last turned: what readiness looks at."""
        self.waiting_for = ""
        """What keeps the loop from turning; empty when nothing does."""
        self._failures = Failures()

    @property
    def fails_for_secs(self) -> float:
        """See Failures."""
        return self._failures.secs

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; a missing broker is waited for."""
        self._stop = stop
        keeping = asyncio.create_task(self._in_hand.keep())
        try:
            await self._loop(stop)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await self._acknowledger.settle_at_last()

    async def _loop(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                # A full broker refuses this even where the group is there; reading makes one too.
                with contextlib.suppress(BusFull):
                    await self._bus.ensure_group(self._stream, self._group)
                await self._finish_own()
                while not stop.is_set():
                    await self.turn()
            except BusError as error:
                await self._wait_out(error)

    async def turn(self) -> None:
        """Claim if it is time to, then read one batch and handle it."""
        if time.monotonic() >= self._next_claim_at_secs:
            every_secs = min(CLAIM_EVERY_SECS, self._settings.min_idle_secs / 4)
            self._next_claim_at_secs = time.monotonic() + every_secs
            await self._retry(await self._pending(self._settings.min_idle_secs))
            await self._acknowledger.settle()
        if kept := await self._read():
            self._policy.serve(kept)
            self._meter.begin(published_at_secs(d.entry_id) for d in kept)
            await self._attempt(kept)

    async def _read(self) -> list[Delivery[M]]:
        """What is to be done next.

        Where there is more than can be done, all that waits is read first: if a turn took one read
        of a long backlog, the newest would wait at its end for ever. A read that its bytes kept
        short does not tell whether there is.
        """
        kept, is_backlog = await self._read_more([], self._settings.block_secs)
        until_secs = time.monotonic() + MAX_READING_SECS
        while is_backlog and time.monotonic() < until_secs and not self._stop.is_set():
            kept, is_backlog = await self._read_more(kept, 0.0)
        return kept

    async def _read_more(
        self, kept: Sequence[Delivery[M]], block_secs: float
    ) -> tuple[list[Delivery[M]], bool]:
        """What is kept after one read more, and whether to go on."""
        asked = self._read_size.entries
        entries = await self._bus.read(
            self._stream, self._group, self._name, count=asked, block_secs=block_secs
        )
        self._turned()
        self._read_size.learn(entries)
        together = [*kept, *[d for entry in entries if (d := await self._decode(entry))]]
        kept_now = await self._without_superseded(together)
        is_too_much = len(kept_now) < len(together) or asked < self._settings.batch_size
        return kept_now, self._policy.lets_go and len(entries) == asked and is_too_much

    async def _without_superseded(self, deliveries: Sequence[Delivery[M]]) -> list[Delivery[M]]:
        kept, superseded = self._policy.split(deliveries)
        await self._finish({d.entry_id: unless_probe(d.message, "superseded") for d in superseded})
        return kept

    def _turned(self) -> None:
        self.last_turn_at_secs = time.monotonic()
        if self.waiting_for:
            log.info("%s: the broker is back", self._group)
        self.waiting_for = ""

    async def _wait_out(self, error: BusError) -> None:
        if not self.waiting_for:
            log.warning("%s: waiting for the broker: %s", self._group, error)
            self._meter.broker_waits.inc()
        self.waiting_for = str(error)
        await asyncio.sleep(BUS_RETRY_SECS)

    async def _patiently(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step as soon as the broker is there for it. Raises BusError if told to stop."""
        while True:
            try:
                return await step()
            except _PASSING as error:
                if self._stop.is_set():
                    raise
                await self._wait_out(error)

    async def _finish_own(self) -> None:
        """What this very consumer had in hand when it died is nobody else's: no need to wait."""
        while not self._stop.is_set():
            own = self._in_vain.taken_off(await self._pending(0.0, consumer=self._name))
            unfinished = await self._retry(own, min_idle_secs=0.0)
            if len(own) < CLAIMS_PER_TURN or unfinished:
                self._in_vain.forget()
                return

    async def _pending(
        self, min_idle_secs: float, *, consumer: str | None = None
    ) -> list[PendingEntry]:
        return await self._bus.pending(
            self._stream,
            self._group,
            count=CLAIMS_PER_TURN,
            min_idle_secs=min_idle_secs,
            consumer=consumer,
        )

    async def _retry(
        self, pending: Sequence[PendingEntry], *, min_idle_secs: float | None = None
    ) -> int:
        """Claim entries one by one, so that a deadly one uses up only its own deliveries."""
        idle_secs = self._settings.min_idle_secs if min_idle_secs is None else min_idle_secs
        let_go = await self._let_go(pending)
        unfinished = 0
        for row in pending:
            if self._stop.is_set():
                break
            if row.entry_id in let_go:
                continue
            # A claim would take an entry that was trimmed off the list, and nobody would count it.
            waiting = await self._bus.entry(self._stream, row.entry_id)
            if waiting is None:
                log.error("%s: %s was trimmed while pending", self._group, row.entry_id)
                await self._finish({row.entry_id: [Count(f"lost_{self._group}")]})
                continue
            with contextlib.suppress(MessageError):
                await self._prepare(self._type.decode(waiting.data))
            entry = await self._claim(row, idle_secs)
            self._turned()
            if entry is None:
                continue  # somebody else has it
            self._meter.claims.inc()
            if row.deliveries >= self._settings.max_deliveries:
                reason = "its consumers failed or died"
                unfinished += not await self._bury(entry, row.deliveries, reason)
            elif delivery := await self._decode(entry):
                self._meter.begin([published_at_secs(entry.entry_id)])
                unfinished += not await self._attempt([delivery])
            else:
                unfinished += 1  # it may not be buried yet
        return unfinished

    async def _claim(self, row: PendingEntry, min_idle_secs: float) -> Entry | None:
        try:
            return await self._bus.claim(
                self._stream, self._group, self._name, row.entry_id, min_idle_secs=min_idle_secs
            )
        except BusError:
            self._in_vain.unanswered(row)
            raise

    async def _let_go(self, pending: Sequence[PendingEntry]) -> set[str]:
        """Acknowledge what the policy would have let go of had these been read together.

        A read whose reply was lost leaves up to a batch behind: to do its old frames one by one
        would keep the new ones waiting for seconds.
        """
        if not self._policy.lets_go:
            return set()  # and 64 decoded true frames need not be in memory
        deliveries = []
        for row in pending:
            entry = await self._bus.entry(self._stream, row.entry_id)
            if entry is not None and row.deliveries < self._settings.max_deliveries:
                with contextlib.suppress(MessageError):  # it is buried when it is claimed
                    message = self._type.decode(entry.data)
                    deliveries.append(Delivery(entry_id=row.entry_id, message=message))
        kept = await self._without_superseded(deliveries)
        self._policy.serve(kept)
        return {d.entry_id for d in deliveries} - {d.entry_id for d in kept}

    async def _decode(self, entry: Entry) -> Delivery[M] | None:
        try:
            return Delivery(entry_id=entry.entry_id, message=self._type.decode(entry.data))
        except MessageError as error:
            await self._bury(entry, 1, str(error))
            return None

    async def _attempt(self, deliveries: Sequence[Delivery[M]]) -> bool:
        """Try the batch; where its handler breaks, each alone, so that the innocent pass. Are all
        done?

        What a handler names as failed it has told apart already: that comes again as any entry
        that was left pending does, for one session that cannot be written must not make a batch
        of sixty as slow as sixty batches.
        """
        with self._in_hand.held([delivery.entry_id for delivery in deliveries]):
            failed = await self._try(deliveries)
            if failed is None and len(deliveries) > 1:
                return await self._try_each(deliveries)
            return failed == 0

    async def _try_each(self, deliveries: Sequence[Delivery[M]]) -> bool:
        """Each alone, until told to stop: what is left then stays pending."""
        done = 0
        for delivery in deliveries:
            if self._stop.is_set():
                break
            self._in_hand.begin_anew()
            done += await self._try([delivery]) == 0
        return done == len(deliveries)

    async def _try(self, deliveries: Sequence[Delivery[M]]) -> int | None:
        """How many the handler names as failed; None where it broke."""
        try:
            outcome = await self._patiently(lambda: self._handle(deliveries))
            done = [d.entry_id for d in deliveries if d.entry_id not in outcome.failed]
            effects = {entry_id: outcome.answers.get(entry_id, ()) for entry_id in done}
            await self._finish(effects, outcome.marks)
        except _PASSING:
            raise
        except Exception:
            whose = ids_if_any(deliveries[0].message) if len(deliveries) == 1 else {}
            entries = [d.entry_id for d in deliveries][:8]
            log.exception("%s: failed on %s", self._group, entries, extra=whose)
            self._book_failures(len(deliveries), deliveries)
            return None
        self._book_failures(len(outcome.failed), deliveries)
        return len(outcome.failed)

    def _book_failures(self, failed: int, tried: Sequence[Delivery[M]]) -> None:
        self._meter.failures.inc(failed)
        if failed < len(tried):
            self._failures.end()
        else:
            self._failures.add(ids_if_any(d.message).get("session_id") for d in tried)

    async def _finish(
        self, effects: Mapping[str, Sequence[Effect]], marks: Sequence[Put] = ()
    ) -> None:
        """Acknowledge entries, each with its effects."""
        if effects or marks:
            await self._patiently(lambda: self._acknowledger.write(effects, marks))

    async def _bury(self, entry: Entry, deliveries: int, reason: str) -> bool:
        """Give it up; False where a full broker took no dead letter, and it stays."""
        where, whose = DeadLetter.STREAM, self._whose(entry)
        log.error("%s: %s goes to %s: %s", self._group, entry.entry_id, where, reason, extra=whose)
        is_buried = await self._acknowledger.bury(entry, deliveries, reason)
        if is_buried:
            self._meter.buried.inc()
        return is_buried

    def _whose(self, entry: Entry) -> dict[str, object]:
        """The ids of the frame that an entry is about, if it says so."""
        try:
            return ids_if_any(self._type.decode(entry.data))
        except MessageError:
            return {}
