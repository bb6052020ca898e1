"""How far an atlas is trusted: its network, its weights in a file, and how it is taught."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from sgaps.atlas import blend
from sgaps.atlas.blend import Compared, Rebuilt, compared, projected
from sgaps.atlas.camera import Pose
from sgaps.atlas.file import from_bytes, to_bytes
from sgaps.atlas.sweep import Recalled
from sgaps.atlas.trust import FEATURES, MOST_SURE, Trust
from sgaps.errors import CheckpointRejected
from sgaps.model import SparsePixelTransformer, build_model
from sgaps.recording import find_segments
from sgaps.sampling.footprints import sample_image
from sgaps.settings import Settings
from trainer import trust as teaching
from trainer.dataset import ExampleOptions, RecordingDataset
from trainer.trust import taught
from trainer.validation import validate
from training.toy_atlas import RUNNING, built, settings_of, uncalibrated
from unit.toy_room import (
    KEY,
    SENTINEL,
    atlas_of,
    card_of,
    pose_at,
    rebuilt_of,
    record,
    seen,
    squares_of,
    state_of,
    walk,
)

Tensors = dict[str, NDArray[np.generic]]
WEIGHT = "trust.correction.0.weight"


def some_features(rows: int = 9, columns: int = 12) -> tuple[NDArray[np.float32], ...]:
    rng = np.random.default_rng(0)
    odds = rng.uniform(-20, 20, (rows, columns)).astype(np.float32)
    return rng.standard_normal((FEATURES, rows, columns), np.float32), odds


def taught_somehow() -> Trust:
    trust = Trust()
    with torch.no_grad():
        for weight in trust.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return trust


def test_untaught_it_says_what_the_odds_say() -> None:
    features, log_odds = some_features()
    expected = 1 / (1 + np.exp(-log_odds.clip(-MOST_SURE, MOST_SURE)))
    np.testing.assert_allclose(Trust().share(features, log_odds), expected, rtol=1e-5)


def test_it_is_never_certain() -> None:
    features, log_odds = some_features()
    share = taught_somehow().share(1e3 * features, log_odds)
    assert share.min() > 0
    assert share.max() < 1


def test_what_it_was_taught_is_in_the_file() -> None:
    atlas = replace(atlas_of(walk(6)), trust=taught_somehow())
    data = to_bytes(atlas)
    again = from_bytes(data, card_of(atlas, data))
    features, log_odds = some_features()
    np.testing.assert_array_equal(
        again.trust.share(features, log_odds), atlas.trust.share(features, log_odds)
    )


def test_a_file_of_before_atlases_were_taught_is_read() -> None:
    atlas = atlas_of(walk(6))
    tensors = safetensors.numpy.load(to_bytes(atlas))
    old = safetensors.numpy.save({n: t for n, t in tensors.items() if not n.startswith("trust.")})
    features, log_odds = some_features()
    np.testing.assert_array_equal(
        from_bytes(old, card_of(atlas, old)).trust.share(features, log_odds),
        Trust().share(features, log_odds),
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop(WEIGHT), "no correction.0.weight"),
        (lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT][1:]}), "of its shape"),
        (lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].astype(np.float64)}), "its shape"),
        (lambda tensors: tensors.update({WEIGHT: 1e12 * tensors[WEIGHT]}), "measure"),
        (lambda tensors: tensors.update({WEIGHT: np.nan * tensors[WEIGHT]}), "beyond all measure"),
        (lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT] + np.float32(np.inf)}), "measure"),
    ],
)
def test_weights_that_are_none_are_refused(
    change: Callable[[Tensors], object], reason: str
) -> None:
    atlas = atlas_of(walk(6))
    tensors = safetensors.numpy.load(to_bytes(atlas))
    change(tensors)
    data = safetensors.numpy.save(tensors)
    with pytest.raises(CheckpointRejected, match=reason):
        from_bytes(data, card_of(atlas, data))


@pytest.fixture(scope="module")
def level(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Recordings of four sessions."""
    settings = settings_of(tmp_path_factory.mktemp("level"))
    for seed, session in enumerate("abcd"):
        record(settings.data.recordings_dir, session, walk(24, seed=seed))
    return settings


def examples_of(settings: Settings, root: Path | None = None) -> RecordingDataset:
    segments = find_segments(root or settings.data.recordings_dir, KEY)
    return RecordingDataset(segments, ExampleOptions.of(settings))


def model_of(settings: Settings) -> SparsePixelTransformer:
    torch.manual_seed(0)
    return build_model(settings.model)


def test_a_taught_atlas_is_worth_more(
    level: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    record(tmp_path, "held-out", walk(12, seed=99))
    model, held_out = model_of(level), examples_of(level, tmp_path)
    untaught = built(level)
    assert untaught is not None
    learned = taught(untaught, model, examples_of(level), level, stop=RUNNING)
    before, after = (
        validate(model, held_out, level, max_examples=12, stop=RUNNING, atlas=atlas)
        for atlas in (untaught, learned)
    )
    assert after.psnr_db > before.psnr_db + 0.3
    assert learned.poses == untaught.poses


def test_a_session_is_shown_by_the_others(level: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    uncalibrated(monkeypatch)
    atlas = built(level)
    assert atlas is not None
    left_out: list[frozenset[int]] = []

    def noted(*arguments: object, but: frozenset[int], **others: object) -> object:
        left_out.append(but)
        return compared(*arguments, but=but, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(teaching, "compared", noted)
    monkeypatch.setattr(teaching, "STEPS", 1)
    taught(atlas, model_of(level), examples_of(level), level, stop=RUNNING)
    own = [frozenset(range(24 * n, 24 * n + 24)) for n in range(4)]
    assert left_out == [session for session in own for _ in range(24)]


def test_where_there_are_no_others_nothing_is_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    record(settings.data.recordings_dir, "a", walk(40))
    atlas = built(settings)
    assert atlas is not None
    model, examples = model_of(settings), examples_of(settings)
    assert taught(atlas, model, examples, settings, stop=RUNNING) is atlas


def test_teaching_stops_when_it_is_told_to(
    level: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    atlas = built(level)
    assert atlas is not None
    stop = threading.Event()
    stop.set()
    assert taught(atlas, model_of(level), examples_of(level), level, stop=stop) is atlas


def test_what_is_half_taught_is_not_kept(level: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    uncalibrated(monkeypatch)
    atlas = built(level)
    assert atlas is not None
    stop = threading.Event()
    monkeypatch.setattr(teaching, "_fitted", lambda *_: stop.set())
    assert taught(atlas, model_of(level), examples_of(level), level, stop=stop) is atlas


def test_where_no_sample_tells_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running sums leave something over where samples end, of either sign."""
    height, width = 210, 160
    rng = np.random.default_rng(0)
    scenery = np.full((53, 40), 255, np.uint8)
    atlas = replace(atlas_of(walk(2)), width=width, height=height, scenery=scenery)
    everywhere = np.ones((height, width), np.bool_)
    for _ in range(8):
        noise, off = rng.standard_normal((2, height, width)).astype(np.float32)
        truth = (128 + 300 * cv2.GaussianBlur(noise, (0, 0), 4)).clip(0, 255)
        wrong = cv2.GaussianBlur(off, (0, 0), 20) > 0
        picture = np.where(wrong, rng.integers(0, 256, (height, width)), np.round(truth))
        picture = picture.astype(np.float32)
        recalled = Recalled(picture=picture, spread=0 * picture, is_seen=everywhere)
        monkeypatch.setattr(blend, "recall", lambda *_, told=recalled, **__: told)
        coords = rng.random((500, 2), np.float32) * np.array([1, 0.5], np.float32)
        sides = rng.choice([1, 2, 4], (500, 1)).astype(np.float32)
        both = compared(
            atlas,
            Rebuilt(truth.astype(np.uint8), np.full((26, 20), -3, np.float32)),
            samples=sample_image(truth.astype(np.uint8), np.hstack([coords, sides])),
            state=state_of(pose_at(0, 0, 0)),
            sentinel=SENTINEL,
        )
        assert both is not None
        assert np.isfinite(both.features).all()
        assert np.isfinite(both.log_odds).all()


def compared_at(pose: Pose) -> Compared:
    """What a model that has only seen a blurred picture knows, beside an atlas of the room."""
    both = compared(
        atlas_of(walk(60)),
        rebuilt_of(seen(pose)),
        samples=squares_of(seen(pose)),
        state=state_of(pose),
        sentinel=SENTINEL,
    )
    assert both is not None
    return both


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_lesson_tells_the_squared_error_of_any_share(share: float) -> None:
    pose = walk(1, seed=1)[0]
    truth, both = seen(pose), compared_at(pose)
    frame = projected(both.frame, both.levels)
    both = replace(both, frame=frame)
    lesson = teaching._lesson(both, truth.astype(np.float32), np.random.default_rng(0))
    blended = projected(frame + share * (both.picture - frame), both.levels)
    told = share**2 * lesson.quadratic - 2 * share * lesson.linear + lesson.constant
    assert float(told.mean()) == pytest.approx(np.square(blended - truth).mean(), rel=1e-3)


def test_of_large_frames_a_part_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "MOST_ROWS", 10)
    monkeypatch.setattr(teaching, "MOST_COLUMNS", 11)
    pose = walk(1, seed=1)[0]
    both = compared_at(pose)
    lesson = teaching._lesson(both, seen(pose).astype(np.float32), np.random.default_rng(0))
    assert lesson.features.shape == (FEATURES, 10, 11)
    assert {t.shape for t in (lesson.log_odds, lesson.quadratic, lesson.linear)} == {(10, 11)}
    assert float(lesson.log_odds[0, 0]) in both.log_odds
