"""Pictures for people, made beside the reconstructor's loop."""

from __future__ import annotations

import asyncio

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from reconstructor import view
from reconstructor.frame import Reconstruction
from reconstructor.view import ViewPublisher, encode_view
from reconstructor.worker import summary
from sgaps.bus import Bus, MemoryBus, Put
from sgaps.keys import watch_key
from sgaps.messages import FrameAccepted, ViewEncoded
from sgaps.packing import pack_pixels
from sgaps_client.pictures import encoded_png
from unit.accepted_frames import frame
from unit.asked_bus import AskedBus

IMAGE = np.full((6, 8), 100, np.uint8)


def accepted(session_id: str, frame_id: int, keyframe: bytes = b"") -> FrameAccepted:
    return msgspec.structs.replace(
        frame(frame_id, session_id=session_id),
        samples_bytes=pack_pixels(np.array([[0.5, 0.5, 1.0]])),
        footprint_bytes=b"\2",
        keyframe_encoding="png" if keyframe else "",
        keyframe=keyframe,
    )


def rebuilt(image: NDArray[np.uint8] = IMAGE) -> Reconstruction:
    return Reconstruction(
        image=image,
        grid=(1, 1),
        entropy=None,
        log_error=None,
        predicted_psnr_db=20.0,
        model_version="v1",
    )


def offer(views: ViewPublisher, frame: FrameAccepted) -> None:
    views.offer(frame, rebuilt(), summary(frame, rebuilt(), 2.5, 0.25, ""))


async def published(bus: Bus, session_id: str) -> list[ViewEncoded]:
    stream = ViewEncoded.stream_of(session_id)
    entries = await bus.tail(stream, bus.START, count=10, block_secs=0)
    return [ViewEncoded.decode(entry.data) for entry in entries]


async def watch(bus: Bus, *session_ids: str) -> None:
    """As a gateway says that somebody looks."""
    await bus.write(*(Put(watch_key(name), {"watched": b"1"}, 99) for name in session_ids))


async def test_what_nobody_watches_is_neither_encoded_nor_asked_for_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(view, "LOOK_EVERY_SECS", 0.2)
    bus = AskedBus()
    views = ViewPublisher(bus)
    for frame_id in range(50):
        offer(views, accepted("a", frame_id))
        await asyncio.sleep(0)
    assert len(bus.trips) == 1
    await watch(bus, "a")
    async with asyncio.timeout(10):
        while not await published(bus, "a"):
            offer(views, accepted("a", 50))
            await asyncio.sleep(0.01)
    assert {view.frame_id for view in await published(bus, "a")} == {50}


async def test_of_each_session_the_newest_is_shown() -> None:
    bus = MemoryBus()
    await watch(bus, "a", "b")
    views = ViewPublisher(bus)
    for frame_id in range(3):
        offer(views, accepted("a", frame_id))
    offer(views, accepted("b", 7))
    async with asyncio.timeout(10):
        while not (of_b := await published(bus, "b")):
            await asyncio.sleep(0.01)
    of_a = await published(bus, "a")
    assert [view.frame_id for view in of_a] == [2]
    assert [view.frame_id for view in of_b] == [7]
    assert (of_a[0].queue_secs, of_a[0].inference_secs) == (0.5, 0.25)
    np.testing.assert_allclose(of_a[0].samples, np.array([[0.5, 0.5, 1, 2]]), atol=1e-5)
    offer(views, accepted("a", 3))
    async with asyncio.timeout(10):
        while len(of_a := await published(bus, "a")) < 2:
            await asyncio.sleep(0.01)
    assert of_a[-1].frame_id == 3


@pytest.mark.parametrize(
    ("keyframe", "psnr_db", "sample_error"),
    [
        (encoded_png(IMAGE + np.uint8(16)), 24.05, 1 - 116 / 255),
        (encoded_png(IMAGE), 100, 1 - 100 / 255),
        (encoded_png(IMAGE[:4]), None, None),
        (b"no picture", None, None),
        (b"", None, None),
    ],
)
def test_a_picture_and_its_samples_are_measured_against_the_true_frame(
    keyframe: bytes, psnr_db: float | None, sample_error: float | None
) -> None:
    frame = accepted("a", 1, keyframe)
    view = encode_view(frame, rebuilt(), summary(frame, rebuilt(), 2.5, 0.25, ""))
    assert view.measured_psnr_db == (psnr_db and pytest.approx(psnr_db, abs=0.01))
    assert view.sample_error == (sample_error and pytest.approx(sample_error, abs=1e-6))
    assert (view.keyframe, view.predicted_psnr_db) == (keyframe, 20)
    shown = cv2.imdecode(np.frombuffer(view.reconstruction_png, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(np.asarray(shown), IMAGE)
