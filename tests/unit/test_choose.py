"""The sampler's choice: repeatable, never backwards, never an exception on odd maps."""

from __future__ import annotations

import numpy as np
import pytest

from sampler.choose import StoredCoordinates, choose
from sgaps.messages import FrameReconstructed, chosen_set_id, pack_floats
from sgaps.settings import Settings, load_settings


def reconstructed(
    frame_id: int,
    *,
    width: int = 320,
    entropy: np.ndarray | None = None,
    log_error: np.ndarray | None = None,
    psnr: float = 20.0,
) -> FrameReconstructed:
    grid = np.linspace(0, 1, 1200).reshape(30, 40) if entropy is None else entropy
    return FrameReconstructed(
        session_id="s",
        gateway_id="g",
        frame_id=frame_id,
        width=width,
        height=240,
        sample_count=500,
        grid_width=grid.shape[1],
        grid_height=grid.shape[0],
        entropy_bytes=pack_floats(grid),
        log_error_bytes=b"" if log_error is None else pack_floats(log_error),
        predicted_psnr_db=psnr,
        model_version="v1",
        received_at_secs=1.0,
        queue_secs=0.0,
        inference_secs=0.0,
    )


@pytest.fixture
def every_fourth() -> Settings:
    return load_settings(
        ["mask_update.strategy=interval", "mask_update.update_interval=4"], environment={}
    )


def test_a_new_set_answers_its_frame(every_fourth: Settings) -> None:
    answer, stored = choose(reconstructed(7), None, every_fourth)
    assert (answer.frame_id, answer.coordinate_set_id) == (7, chosen_set_id(7))
    assert answer.coords.shape == (500, 3)
    assert len(answer.importance) == 30 * 40
    assert StoredCoordinates.from_fields(stored.to_fields()) == stored


def test_the_set_is_kept_until_it_is_due(every_fourth: Settings) -> None:
    _, stored = choose(reconstructed(7), None, every_fourth)
    again, kept = choose(reconstructed(10), stored, every_fourth)
    assert (again.frame_id, again.coordinate_set_id, kept) == (10, chosen_set_id(7), stored)
    due, _ = choose(reconstructed(11), stored, every_fourth)
    assert due.coordinate_set_id == chosen_set_id(11)
    assert due.coords_bytes != again.coords_bytes


def test_a_redelivered_frame_gets_the_same_answer(every_fourth: Settings) -> None:
    assert choose(reconstructed(7), None, every_fourth) == choose(
        reconstructed(7), None, every_fourth
    )


def test_another_resolution_needs_another_set(every_fourth: Settings) -> None:
    _, stored = choose(reconstructed(7), None, every_fourth)
    answer, _ = choose(reconstructed(8, width=640), stored, every_fourth)
    assert answer.coordinate_set_id == chosen_set_id(8)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_odd_entropy_still_gives_coordinates(value: float, settings: Settings) -> None:
    blind = np.full((30, 40), value, np.float32)
    answer, _ = choose(reconstructed(7, entropy=blind), None, settings)
    assert answer.coords.shape == (500, 3)
    assert set(answer.importance) == {255}


@pytest.mark.parametrize("fields", [{}, {"coords": b"123"}, {"coordinate_set_id": b"x"}])
def test_unreadable_state_counts_as_none(fields: dict[str, bytes]) -> None:
    assert StoredCoordinates.from_fields(fields) is None


def test_importance_is_what_the_settings_say() -> None:
    """Entropy is highest at the bottom right, the predicted error at the top left."""
    entropy = np.linspace(0, 1, 1200).reshape(30, 40)
    log_error = np.log(np.linspace(0.5, 0.001, 1200)).reshape(30, 40)
    frame = reconstructed(3, entropy=entropy, log_error=log_error)

    def importance(method: str, frame: FrameReconstructed) -> np.ndarray:
        settings = load_settings([f"importance.method={method}"], environment={})
        answer, _ = choose(frame, None, settings)
        return np.frombuffer(answer.importance, np.uint8).reshape(30, 40)

    assert importance("attention_entropy", frame)[[0, -1], [0, -1]].tolist() == [0, 255]
    chosen = importance("predicted_error", frame)
    assert chosen[[0, -1], [0, -1]].tolist() == [255, 0]
    assert 100 < chosen[15, 0] < 155  # half the error is half as important
    untrained = reconstructed(3, entropy=entropy)
    assert importance("predicted_error", untrained)[[0, -1], [0, -1]].tolist() == [0, 255]
