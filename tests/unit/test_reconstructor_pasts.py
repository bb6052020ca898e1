"""What a replica remembers of a session is what the broker has of it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconstructor import past
from reconstructor.past import Pasts
from sgaps.bus import Push
from sgaps.errors import MessageError
from sgaps.keys import history_key
from sgaps.messages import FrameAccepted
from sgaps.settings import Settings
from unit.accepted_frames import frame, store
from unit.asked_bus import AskedBus

FRAMES = 3
"""A model looks back to."""


async def before(pasts: Pasts, *frames: FrameAccepted) -> list[list[int]]:
    """The ids of what came before each; its samples are those of these frames."""
    found = await pasts.before(frames)
    for frame_id, samples in (row for rows in found for row in rows):
        np.testing.assert_array_equal(samples, frame(frame_id).samples)
    return [[frame_id for frame_id, _ in rows] for rows in found]


async def test_whoever_had_the_frame_before_asks_nobody() -> None:
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    seen = []
    for frame_id in range(6):
        await store(bus, frame(frame_id))
        seen += await before(pasts, frame(frame_id, frame_id - 1))
    assert seen == [[], [0], [1, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert bus.trips == []


@pytest.mark.parametrize("previous_frame_id", [None, 4])
async def test_of_frames_that_went_elsewhere_the_broker_is_asked(
    previous_frame_id: int | None,
) -> None:
    """Or where a gateway of an older release says nothing."""
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    for frame_id in range(6):
        await store(bus, frame(frame_id))
    await before(pasts, frame(0, -1))
    assert await before(pasts, frame(5, previous_frame_id)) == [[4, 3, 2]]
    assert bus.trips == [[history_key("a")]]


async def test_one_trip_is_for_all_of_a_batch_that_are_not_remembered() -> None:
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    for session_id in "abc":
        await store(bus, frame(7, session_id=session_id))
    await before(pasts, frame(7, -1, "b"))
    batch = [frame(8, 7, session_id) for session_id in "abc"]
    assert await before(pasts, *batch) == [[7]] * 3
    assert bus.trips == [[history_key("a"), history_key("c")]]


async def test_a_late_frame_is_not_remembered_as_the_newest() -> None:
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    for frame_id in range(3):
        await store(bus, frame(frame_id))
    await before(pasts, frame(2, 1))
    assert await before(pasts, frame(1, 0)) == [[0]]
    bus.trips.clear()
    assert await before(pasts, frame(3, 2)) == [[2, 1, 0]]
    assert bus.trips == []


@pytest.mark.parametrize("previous_frame_id", [2, None])
async def test_a_session_that_came_back_with_another_size_begins_anew(
    previous_frame_id: int | None,
) -> None:
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    larger = [frame(3, previous_frame_id, width=16), frame(4, 3, width=16)]
    for accepted in [*map(frame, range(3)), *larger]:
        await store(bus, accepted)
    await before(pasts, frame(2, 1))
    assert await before(pasts, larger[0]) == [[]]
    assert await before(pasts, larger[1]) == [[3]]
    assert await before(Pasts(bus, frames=FRAMES), larger[1]) == [[3]]


async def test_a_model_without_memory_needs_none() -> None:
    """Not even of the frame that this replica had before: another one would not have it."""
    bus = AskedBus()
    pasts = Pasts(bus, frames=0)
    seen = [await before(pasts, frame(frame_id, frame_id - 1)) for frame_id in range(3)]
    assert seen == [[[]]] * 3
    assert bus.trips == []


async def test_sessions_that_were_not_seen_for_long_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_bytes = frame(0).samples.nbytes + past.BESIDES_BYTES
    monkeypatch.setattr(past, "MOST_BYTES", 2 * one_bytes)
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    for session_id in "abc":
        await before(pasts, frame(0, -1, session_id))
    await before(pasts, *(frame(1, 0, session_id) for session_id in "abc"))
    assert bus.trips == [[history_key("a")]]


async def test_what_is_larger_than_all_room_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST_BYTES", past.BESIDES_BYTES)
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    for frame_id in range(2):
        await store(bus, frame(frame_id))
        seen = await before(pasts, frame(frame_id, frame_id - 1))
    assert seen == [[0]]
    assert bus.trips == [[history_key("a")]]


async def test_all_sessions_of_a_gateway_are_remembered(settings: Settings) -> None:
    bus = AskedBus()
    pasts = Pasts(bus, frames=FRAMES)
    names = [f"s{number}" for number in range(settings.server.max_sessions)]
    for frame_id in range(2):
        seen = await before(pasts, *(frame(frame_id, frame_id - 1, name) for name in names))
    assert seen == [[0]] * len(names)
    assert bus.trips == []


async def test_what_cannot_be_read_is_refused() -> None:
    bus = AskedBus()
    await bus.write(Push(history_key("a"), b"nothing of ours", 9, 99))
    with pytest.raises(MessageError):
        await Pasts(bus, frames=FRAMES).before([frame(1, 0)])


@given(
    st.lists(
        st.tuples(st.sampled_from(["first", "second", "nobody"]), st.integers(0, 2)), max_size=25
    )
)
def test_whoever_does_a_frame_sees_what_the_broker_has(way: list[tuple[str, int]]) -> None:
    """Frames go to either replica or were superseded, some of them late."""

    async def play() -> None:
        bus = AskedBus()
        replicas = {name: Pasts(bus, frames=FRAMES) for name in ("first", "second")}
        waiting: list[tuple[str, FrameAccepted]] = []
        for frame_id, (who, late) in enumerate(way):
            accepted = frame(frame_id, frame_id - 1)
            await store(bus, accepted)
            waiting.append((who, accepted))
            if late:  # it is done with those that come after it, the newest first
                continue
            for name, done in reversed(waiting):
                if name in replicas:
                    (seen,) = await before(replicas[name], done)
                    expected = list(range(done.frame_id - 1, -1, -1))[:FRAMES]
                    # The broker's list is of the newest; what is behind them it may not have.
                    assert seen == expected[: len(seen)]
                    assert len(seen) >= min(len(expected), FRAMES - len(waiting) + 1)
            waiting.clear()

    asyncio.run(play())
