"""The sampler's loop: the newest reconstruction of each session in, its next coordinates out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

import msgspec

from sampler.choose import StoredCoordinates, choose, draft
from sgaps import tracing
from sgaps.bus import Bus, Consumer, Delivery, Effect, KeepNewest, Outcome, Publish, Put
from sgaps.keys import MEMORY_TTL_SECS, sampler_key
from sgaps.messages import FrameReconstructed
from sgaps.metrics import stage
from sgaps.service import Service

GROUP = "sampler"
MAX_UNREAD_COORDINATES = 10_000
"""Entries kept for a gateway that does not read: it is gone, and so are its sessions."""
HOLDS_LOOP_SECS = 0.05
"""The points of a large picture take 30 ms, and a batch may hold those of hundreds of sessions."""

T = TypeVar("T")


class Worker:
    """Chooses coordinates; a session's state is kept beside the streams, not here."""

    def __init__(self, service: Service) -> None:
        self._bus: Bus = service.bus
        self._settings = service.settings
        self.consumer = Consumer(
            service.bus,
            FrameReconstructed,
            group=GROUP,
            name=service.consumer_name,
            settings=service.settings.bus,
            handle=self.handle,
            policy=KeepNewest(service.settings.bus.batch_size),
            stage="sample",
        )

    async def handle(self, batch: Sequence[Delivery[FrameReconstructed]]) -> Outcome:
        """Choose for every session of the batch; what is to be written."""
        answers: dict[str, list[Effect]] = {}
        with stage("sample", len(batch)):
            started_at_secs = time.time()
            drafts = [draft(d.message, self._settings) async for d in _in_turns(batch)]
            in_force = await self._sets_in_force(
                d.message.session_id
                for d, drafted in zip(batch, drafts, strict=True)
                if not drafted.new
            )
            async for delivery, drafted in _in_turns(zip(batch, drafts, strict=True)):
                session_id = delivery.message.session_id
                chosen, state = choose(
                    delivery.message, drafted, in_force.get(session_id), self._settings
                )
                traceparent = tracing.passed(
                    "sample",
                    chosen,
                    started_at_secs=started_at_secs,
                    entry_id=delivery.entry_id,
                    batch_size=len(batch),
                    model_version=chosen.model_version,
                )
                chosen = msgspec.structs.replace(chosen, traceparent=traceparent)
                answers[delivery.entry_id] = [
                    Publish(chosen, MAX_UNREAD_COORDINATES),
                    # Late frames are done too, and two replicas may do two of a session at once.
                    Put(
                        sampler_key(session_id),
                        state.to_fields(),
                        MEMORY_TTL_SECS,
                        rising="last_update_frame_id",
                    ),
                ]
        return Outcome(answers=answers)

    async def _sets_in_force(
        self, session_ids: Iterable[str]
    ) -> dict[str, StoredCoordinates | None]:
        """What these sessions have. Who gets a new set in any case is not among them, nor waits."""
        ids = list(session_ids)
        stored = await self._bus.hashes(list(map(sampler_key, ids))) if ids else []
        return dict(zip(ids, map(StoredCoordinates.from_fields, stored), strict=True))


async def _in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The same; heartbeats go out and entries in hand are renewed between them."""
    held_since_secs = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - held_since_secs > HOLDS_LOOP_SECS:
            await asyncio.sleep(0)
            held_since_secs = time.monotonic()
