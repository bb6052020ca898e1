"""The reconstructor's loop: the newest frame of each session in, what the model doubts
of it out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from reconstructor.frame import FrameInput, Reconstruction, Reconstructor
from reconstructor.past import Past, Pasts
from reconstructor.view import ViewPublisher
from sgaps import tracing
from sgaps.bus import Consumer, Delivery, Effect, KeepNewest, Outcome, Publish
from sgaps.messages import FrameAccepted, FrameReconstructed
from sgaps.metrics import stage
from sgaps.packing import Float32, pack_floats
from sgaps.service import Service

GROUP = "reconstructor"
QUICK_SECS = 0.005
"""A pass on a GPU may take less. Heartbeats and views can wait so long, and to wake a thread and be
woken by it takes a third of a millisecond where both slept (`sgaps bench way`)."""


class Worker:
    """Any replica does any frame: what it remembers of a session is beside the stream as well."""

    def __init__(self, service: Service, reconstructor: Reconstructor) -> None:
        self._pasts = Pasts(service.bus, frames=service.settings.server.history_frames)
        self._reconstructor = reconstructor
        self._quick_px = 0
        """Pixels of the largest pass that was quick since one was slow."""
        self._views = ViewPublisher(service.bus)
        self.consumer = Consumer(
            service.bus,
            FrameAccepted,
            group=GROUP,
            name=service.consumer_name,
            settings=service.settings.bus,
            handle=self.handle,
            policy=KeepNewest(reconstructor.frames_at_once),
            stage="reconstruct",
        )

    async def handle(self, batch: Sequence[Delivery[FrameAccepted]]) -> Outcome:
        """Rebuild the batch; what is to be written."""
        frames = [delivery.message for delivery in batch]
        pasts = await self._pasts.before(frames)
        inputs = [frame_input(f, past) for f, past in zip(frames, pasts, strict=True)]
        started_at_secs, begun_secs = time.time(), time.monotonic()
        with stage("reconstruct", len(frames)):
            results = await self._rebuilt(inputs)
        # Not by the first one, which may be set back meanwhile.
        inference_secs = time.monotonic() - begun_secs
        answers: dict[str, list[Effect]] = {}
        for delivery, result in zip(batch, results, strict=True):
            traceparent = tracing.passed(
                "reconstruct",
                delivery.message,
                started_at_secs=started_at_secs,
                entry_id=delivery.entry_id,
                batch_size=len(batch),
                model_version=result.model_version,
            )
            told = summary(delivery.message, result, started_at_secs, inference_secs, traceparent)
            answers[delivery.entry_id] = [Publish(told)]
            self._views.offer(delivery.message, result, told)
        return Outcome(answers=answers)

    async def _rebuilt(self, inputs: Sequence[FrameInput]) -> list[Reconstruction]:
        """In a thread, for all else waits meanwhile; but not where as many pixels were quick, and
        no model has to be loaded first."""
        pixels = sum(shown.width * shown.height for shown in inputs)
        started_at_secs = time.monotonic()
        keys = {shown.checkpoint_key for shown in inputs}
        if pixels <= self._quick_px and all(map(self._reconstructor.is_at_hand, keys)):
            results = self._reconstructor.reconstruct(inputs)
        else:
            results = await asyncio.to_thread(self._reconstructor.reconstruct, inputs)
        is_quick = time.monotonic() - started_at_secs < QUICK_SECS
        self._quick_px = max(self._quick_px, pixels) if is_quick else 0
        return results


def frame_input(frame: FrameAccepted, past: Past) -> FrameInput:
    """What the model sees of a frame: its samples, its state, and older samples with their age."""
    return FrameInput(
        checkpoint_key=frame.checkpoint_key,
        samples=frame.samples,
        state=frame.state,
        width=frame.width,
        height=frame.height,
        history=tuple((frame.frame_id - frame_id, samples) for frame_id, samples in past),
    )


def summary(
    frame: FrameAccepted,
    result: Reconstruction,
    started_at_secs: float,
    inference_secs: float,
    traceparent: str,
) -> FrameReconstructed:
    """What the sampler needs of a reconstruction."""
    grid_height, grid_width = result.grid
    return FrameReconstructed(
        session_id=frame.session_id,
        gateway_id=frame.gateway_id,
        frame_id=frame.frame_id,
        width=frame.width,
        height=frame.height,
        sample_count=frame.sample_count,
        grid_width=grid_width,
        grid_height=grid_height,
        entropy_bytes=_packed(result.entropy),
        log_error_bytes=_packed(result.log_error),
        predicted_psnr_db=result.predicted_psnr_db,
        model_version=result.model_version,
        received_at_secs=frame.received_at_secs,
        queue_secs=max(0.0, started_at_secs - frame.received_at_secs),
        inference_secs=inference_secs,
        footprints=frame.footprints,
        traceparent=traceparent,
        wanted_samples=frame.wanted_samples,
        is_placed_evenly=frame.is_placed_evenly,
    )


def _packed(grid: Float32 | None) -> bytes:
    return b"" if grid is None else pack_floats(grid)
