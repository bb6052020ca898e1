"""A reconstruction as pictures for people, made beside the loop: no answer waits for one."""

from __future__ import annotations

import asyncio
import logging

import cv2
import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from reconstructor.frame import Reconstruction
from sgaps import whole_frames
from sgaps.bus import Bus, Publish
from sgaps.errors import BusError
from sgaps.keys import watch_key
from sgaps.messages import FrameAccepted, FrameReconstructed, ViewEncoded
from sgaps.metrics import reconstructor as metrics
from sgaps.sampling.footprints import sample_error

log = logging.getLogger(__name__)

VIEWS_KEPT = 2
VIEW_TTL_SECS = 600.0
LOOK_EVERY_SECS = 0.5
"""How often the broker is asked at most whether somebody watches a session whom nobody watched."""
MOST_UNWATCHED = 4096
"""Sessions of which it is remembered; those beyond are asked for more often."""

Rebuilt = tuple[FrameAccepted, Reconstruction, FrameReconstructed]


class ViewPublisher:
    """Publishes one view after the other of what somebody watches; of each session only the newest
    waits."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[str, Rebuilt] = {}
        self._unwatched: TTLCache[str, bool] = TTLCache(MOST_UNWATCHED, LOOK_EVERY_SECS)
        self._publishing: asyncio.Task[None] | None = None

    def offer(self, frame: FrameAccepted, result: Reconstruction, told: FrameReconstructed) -> None:
        """Show this frame if somebody looks, unless a newer one of its session comes first."""
        if frame.session_id in self._unwatched:
            return
        self._waiting[frame.session_id] = (frame, result, told)
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        try:
            while self._waiting:
                session_id = next(iter(self._waiting))
                rebuilt = self._waiting.pop(session_id)
                if not await self._is_watched(session_id):
                    continue
                view = await asyncio.to_thread(encode_view, *rebuilt)
                metrics.VIEWS_ENCODED.inc()
                await self._bus.write(Publish(view, VIEWS_KEPT, VIEW_TTL_SECS))
        except (BusError, cv2.error) as error:
            self._waiting.clear()
            log.warning("views were lost: %s", error)
        finally:
            self._publishing = None

    async def _is_watched(self, session_id: str) -> bool:
        (watched,) = await self._bus.hashes([watch_key(session_id)])
        if not watched:
            self._unwatched[session_id] = True
        return bool(watched)


def encode_view(
    frame: FrameAccepted, result: Reconstruction, told: FrameReconstructed
) -> ViewEncoded:
    """PNG, because people measure PSNR on it. Raises MessageError."""
    height, width = result.image.shape
    truth = whole_frames.picture_of(frame.keyframe, width, height) if frame.keyframe else None
    return ViewEncoded(
        session_id=frame.session_id,
        frame_id=frame.frame_id,
        width=frame.width,
        height=frame.height,
        model_version=result.model_version,
        reconstruction_png=_png(result.image),
        samples_bytes=frame.samples_bytes,
        footprint_bytes=frame.footprint_bytes,
        state_bytes=frame.state_bytes,
        keyframe_encoding=frame.keyframe_encoding,
        keyframe=frame.keyframe,
        predicted_psnr_db=result.predicted_psnr_db,
        measured_psnr_db=None
        if truth is None
        else whole_frames.picture_psnr_db(result.image, truth),
        sample_error=None if truth is None else sample_error(frame.samples, truth),
        received_at_secs=frame.received_at_secs,
        queue_secs=told.queue_secs,
        inference_secs=told.inference_secs,
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return bytes(encoded.tobytes())
