"""The sampler's loop: the newest reconstruction of each session in, its next coordinates out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from sampler.choose import Draft, StoredCoordinates, choose, draft
from sgaps import tracing
from sgaps.bus import Bus, Consumer, Delivery, Effect, KeepNewest, Outcome, Publish, Put
from sgaps.keys import SESSION_TTL_SECS, sampler_key
from sgaps.messages import FrameReconstructed
from sgaps.metrics import stage
from sgaps.service import Service

GROUP = "sampler"
MAX_UNREAD_COORDINATES = 10_000
"""Entries kept for a gateway that does not read: it is gone, and so are its sessions."""


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
        keys = [sampler_key(delivery.message.session_id) for delivery in batch]
        answers: dict[str, list[Effect]] = {}
        with stage("sample", len(batch)):
            started_at_secs = time.time()
            # In this order: the question is on its way before the first draft is begun.
            stored, drafts = await asyncio.gather(self._bus.hashes(keys), self._drafts(batch))
            for delivery, key, drafted, fields in zip(batch, keys, drafts, stored, strict=True):
                state = StoredCoordinates.from_fields(fields)
                chosen, state = choose(delivery.message, drafted, state, self._settings)
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
                    Put(key, state.to_fields(), SESSION_TTL_SECS),
                ]
        return Outcome(answers=answers)

    async def _drafts(self, batch: Sequence[Delivery[FrameReconstructed]]) -> list[Draft]:
        """Done while the broker's answer comes."""
        return [draft(delivery.message, self._settings) for delivery in batch]
