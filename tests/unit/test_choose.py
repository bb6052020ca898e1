"""The sampler's choice: repeatable, never backwards, never from a broken state or an odd map."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.choose import StoredCoordinates, choose, draft
from sgaps.messages import CoordinatesChosen, FrameReconstructed, chosen_set_id
from sgaps.packing import pack_floats
from sgaps.settings import Settings, load_settings
from unit.reconstructed_frames import frame_of

NAN = float("nan")
OTHER_REPLICA = """
import sys
from sampler.choose import choose, draft
from sgaps.messages import FrameReconstructed
from sgaps.settings import load_settings

frame = FrameReconstructed.decode(sys.stdin.buffer.read())
settings = load_settings(environment={})
answer, _ = choose(frame, draft(frame, settings), None, settings)
sys.stdout.buffer.write(answer.encode())
"""


def settings_of(*overrides: str) -> Settings:
    return load_settings(overrides, environment={})


ADAPTIVE = settings_of("mask_update.strategy=adaptive", "mask_update.update_interval=4")
FIXED = settings_of("mask_update.strategy=fixed")
EVERY_FOURTH = settings_of("mask_update.strategy=interval", "mask_update.update_interval=4")
RISING_RIGHTWARDS = np.tile(np.linspace(0, 1, 40), (30, 1))


def answer_to(
    frame: FrameReconstructed, stored: StoredCoordinates | None, settings: Settings
) -> tuple[CoordinatesChosen, StoredCoordinates]:
    return choose(frame, draft(frame, settings), stored, settings)


def stored_fields(**changes: bytes) -> dict[str, bytes]:
    _, stored = answer_to(frame_of(7), None, FIXED)
    return {**stored.to_fields(), **changes}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_set_ids_never_go_backwards_whatever_the_order(frame_ids: list[int]) -> None:
    stored, answered = None, []
    for frame_id in frame_ids:
        answer, stored = answer_to(
            frame_of(frame_id, psnr_db=99.0 if frame_id % 2 else 20.0), stored, ADAPTIVE
        )
        assert answer.frame_id == frame_id
        answered.append(answer.coordinate_set_id)
    assert answered == sorted(answered)


@pytest.mark.parametrize("width", [320, 64])
def test_a_late_frame_leaves_the_newer_set_in_force(width: int) -> None:
    _, stored = answer_to(frame_of(16), None, ADAPTIVE)
    late, kept = answer_to(frame_of(14, width=width), stored, ADAPTIVE)
    assert kept == stored
    assert late.coords_bytes == stored.coords_bytes


@pytest.mark.parametrize("psnr_db", [20.0, 99.0, None, NAN])
def test_redelivery_after_the_state_was_written_changes_nothing(psnr_db: float | None) -> None:
    first, stored = answer_to(frame_of(7, psnr_db=psnr_db), None, ADAPTIVE)
    again, kept = answer_to(frame_of(7, psnr_db=psnr_db), stored, ADAPTIVE)
    assert again.encode() == first.encode()
    assert kept == stored


@pytest.mark.parametrize("salt", ["1", "2"])
def test_another_process_gives_the_same_answer(salt: str) -> None:
    """Python's own hash is salted per process: replicas would disagree."""
    expected, _ = answer_to(frame_of(7), None, settings_of())
    answered = subprocess.run(
        [sys.executable, "-c", OTHER_REPLICA],
        input=frame_of(7).encode(),
        env={**os.environ, "PYTHONHASHSEED": salt},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert CoordinatesChosen.decode(answered.stdout) == expected


def test_sessions_frames_and_seeds_draw_differently() -> None:
    seeded = settings_of("mask_update.strategy=fixed", "sampling.seed=1")
    draws = {
        answer_to(frame_of(7), None, FIXED)[0].coords_bytes,
        answer_to(frame_of(8), None, FIXED)[0].coords_bytes,
        answer_to(frame_of(7, session_id="t"), None, FIXED)[0].coords_bytes,
        answer_to(frame_of(7), None, seeded)[0].coords_bytes,
    }
    assert len(draws) == 4


def test_a_short_frame_does_not_shrink_the_next_set() -> None:
    answer, _ = answer_to(frame_of(7, sample_count=1), None, ADAPTIVE)
    assert answer.coords.shape == (500, 3)


def test_a_new_sample_count_needs_a_new_set() -> None:
    _, stored = answer_to(frame_of(7), None, FIXED)
    fewer = settings_of("mask_update.strategy=fixed", "sampling.default_sample_count=200")
    answer, renewed = answer_to(frame_of(8), stored, fewer)
    assert answer.coordinate_set_id == chosen_set_id(8)
    assert (answer.coords.shape, len(renewed.coords)) == ((200, 3), 200)


def test_a_session_gets_as_many_samples_as_it_was_promised() -> None:
    _, stored = answer_to(frame_of(7), None, FIXED)
    answer, renewed = answer_to(frame_of(8, wanted_samples=300), stored, FIXED)
    assert (answer.coords.shape, len(renewed.coords)) == ((300, 3), 300)


@pytest.mark.parametrize("footprints", [False, True])
def test_samples_are_placed_evenly_where_a_session_wants_that(footprints: bool) -> None:
    """The map rises from left to right, and so do the samples unless they are to be even."""
    shares = [
        float((answer.coords[:, 0] > 0.5).mean())
        for is_even in (False, True)
        for answer, _ in [
            answer_to(
                frame_of(
                    7,
                    footprints=footprints,
                    is_placed_evenly=is_even,
                    entropy=RISING_RIGHTWARDS,
                ),
                None,
                ADAPTIVE,
            )
        ]
    ]
    assert shares[0] > 0.55
    assert shares[1] == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2)])
def test_a_tiny_frame_gets_all_its_pixels_and_keeps_them(width: int, height: int) -> None:
    first, stored = answer_to(frame_of(7, width=width, height=height), None, FIXED)
    again, _ = answer_to(frame_of(8, width=width, height=height), stored, FIXED)
    assert first.coords.shape == (width * height, 3)
    assert again.coordinate_set_id == first.coordinate_set_id


def test_the_answer_survives_the_stream() -> None:
    answer, stored = answer_to(frame_of(7), None, FIXED)
    assert CoordinatesChosen.decode(answer.encode()) == answer
    assert StoredCoordinates.from_fields(stored.to_fields()) == stored


@pytest.mark.parametrize(
    "changes",
    [
        {"coords": pack_floats(np.array([[0.5, NAN]]))},
        {"coords": pack_floats(np.array([[0.5, 1.5]]))},
        {"coords": pack_floats(np.array([[-0.5, 0.5]]))},
        {"coords": b"\0" * 12},
        {"coords": b""},
        {"width": b"\xff"},
        {"last_update_frame_id": b""},
    ],
)
def test_a_broken_state_counts_as_none(changes: dict[str, bytes]) -> None:
    assert StoredCoordinates.from_fields(stored_fields()) is not None
    assert StoredCoordinates.from_fields(stored_fields(**changes)) is None


def test_squares_are_for_clients_that_can_sample_them() -> None:
    points, stored = answer_to(frame_of(7), None, FIXED)
    squares, renewed = answer_to(frame_of(8, footprints=True), stored, FIXED)
    assert set(points.coords[:, 2].tolist()) == {1.0}
    assert squares.coords[:, 2].max() > 1
    assert squares.coordinate_set_id == chosen_set_id(8)
    restored = StoredCoordinates.from_fields(renewed.to_fields())
    assert restored == renewed
    kept, _ = answer_to(frame_of(9, footprints=True), restored, FIXED)
    np.testing.assert_array_equal(kept.coords, squares.coords)


def test_a_new_set_answers_its_frame() -> None:
    answer, stored = answer_to(frame_of(7), None, EVERY_FOURTH)
    assert (answer.frame_id, answer.coordinate_set_id) == (7, chosen_set_id(7))
    assert answer.coords.shape == (500, 3)
    assert len(answer.importance) == 30 * 40
    assert StoredCoordinates.from_fields(stored.to_fields()) == stored


def test_the_set_is_kept_until_it_is_due() -> None:
    _, stored = answer_to(frame_of(7), None, EVERY_FOURTH)
    again, kept = answer_to(frame_of(10), stored, EVERY_FOURTH)
    assert (again.frame_id, again.coordinate_set_id, kept) == (10, chosen_set_id(7), stored)
    due, _ = answer_to(frame_of(11), stored, EVERY_FOURTH)
    assert due.coordinate_set_id == chosen_set_id(11)
    assert due.coords_bytes != again.coords_bytes


def test_another_placement_needs_another_set() -> None:
    stored = answer_to(frame_of(1), None, FIXED)[1]
    answer, new = answer_to(frame_of(2, is_placed_evenly=True), stored, FIXED)
    assert answer.coordinate_set_id == chosen_set_id(2)
    restored = StoredCoordinates.from_fields(new.to_fields())
    assert answer_to(frame_of(3, is_placed_evenly=True), restored, FIXED)[1] == new


def test_another_resolution_needs_another_set() -> None:
    _, stored = answer_to(frame_of(7), None, EVERY_FOURTH)
    answer, _ = answer_to(frame_of(8, width=640), stored, EVERY_FOURTH)
    assert answer.coordinate_set_id == chosen_set_id(8)


@pytest.mark.parametrize(
    "blind", [*(np.full((30, 40), value) for value in (0.0, NAN, float("inf"))), np.empty(0)]
)
def test_odd_entropy_or_none_still_gives_coordinates(blind: np.ndarray) -> None:
    answer, _ = answer_to(frame_of(7, entropy=blind), None, settings_of())
    assert answer.coords.shape == (500, 3)
    assert set(answer.importance) == {255}


def test_importance_is_what_the_settings_say() -> None:
    """Entropy is highest at the bottom right, the predicted error at the top left."""
    entropy = np.linspace(0, 1, 1200).reshape(30, 40)
    log_error = np.log(np.linspace(0.5, 0.001, 1200)).reshape(30, 40)
    frame = frame_of(3, entropy=entropy, log_error=log_error)

    def importance(method: str, frame: FrameReconstructed) -> np.ndarray:
        settings = load_settings([f"importance.method={method}"], environment={})
        answer, _ = answer_to(frame, None, settings)
        return np.frombuffer(answer.importance, np.uint8).reshape(30, 40)

    assert importance("attention_entropy", frame)[[0, -1], [0, -1]].tolist() == [0, 255]
    chosen = importance("predicted_error", frame)
    assert chosen[[0, -1], [0, -1]].tolist() == [255, 0]
    # Half the error is nearly as important: 0.5 and 0.002 to the power of 0.3, stretched.
    assert 190 < chosen[15, 0] < 205
    untrained = frame_of(3, entropy=entropy)
    assert importance("predicted_error", untrained)[[0, -1], [0, -1]].tolist() == [0, 255]


@pytest.mark.parametrize(("psnr_db", "is_drawn"), [(20.0, True), (None, True), (99.0, False)])
def test_a_set_is_drawn_ahead_only_where_it_is_due_in_any_case(
    psnr_db: float | None, is_drawn: bool
) -> None:
    drafted = draft(frame_of(7, psnr_db=psnr_db), ADAPTIVE)
    assert (drafted.new is not None) == is_drawn
    assert draft(frame_of(7, psnr_db=psnr_db), FIXED).new is None


@given(st.integers(0, 12), st.sampled_from([20.0, 99.0, None, NAN]), st.sampled_from([320, 64]))
def test_what_was_drawn_ahead_changes_no_answer(
    stored_frame_id: int, psnr_db: float | None, width: int
) -> None:
    _, stored = answer_to(frame_of(stored_frame_id), None, ADAPTIVE)
    frame = frame_of(7, psnr_db=psnr_db, width=width)
    drafted = draft(frame, ADAPTIVE)
    without = replace(drafted, new=None)
    for there in (None, stored):
        ahead, kept = choose(frame, drafted, there, ADAPTIVE)
        behind, kept_too = choose(frame, without, there, ADAPTIVE)
        assert ahead.encode() == behind.encode()
        assert kept == kept_too
