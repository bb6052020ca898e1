"""From recordings to an atlas that serves: which frames, which camera, published where it helps."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trainer.contest
import trainer.run
from reconstructor.frame import FrameInput
from reconstructor.neural import NeuralReconstructor
from sgaps.atlas.atlas import Atlas
from sgaps.atlas.camera import Camera, Pose
from sgaps.atlas.pictures import encoded
from sgaps.errors import RecordingCorrupt
from sgaps.model import CheckpointStore, build_model
from sgaps.recording import SegmentReader, SegmentWriter, find_segments
from sgaps.settings import PoseLayout, Settings
from trainer import atlas as building
from trainer import trust as teaching
from trainer.atlas import calibrated, far_apart
from trainer.champion import Champion
from trainer.comparison import compare
from trainer.run import RunReport, train_key
from trainer.split import Split
from trainer.validation import HeldOut
from training.toy_atlas import POSES, RUNNING, built, settings_of, uncalibrated
from unit.toy_room import (
    CAMERA,
    HEIGHT,
    KEY,
    LAYOUT,
    WIDTH,
    atlas_of,
    pose_at,
    psnr_db,
    record,
    seen,
    squares_of,
    state_of,
    walk,
)

NOTHING = HeldOut(psnr_db=0.0, score_db=0.0)


def fails(*_: object, **__: object) -> None:
    raise RecordingCorrupt("torn")


def test_the_camera_is_found_out() -> None:
    off = Camera(focal_width=0.6, focal_height=0.75, horizon=0.5)
    found = calibrated(atlas_of(walk(160), camera=off), building.STEPS, RUNNING).camera
    assert found.focal_width == pytest.approx(CAMERA.focal_width, rel=0.05)
    assert found.focal_height == pytest.approx(CAMERA.focal_height, rel=0.05)
    assert found.horizon == pytest.approx(CAMERA.horizon, abs=0.02)


def test_an_atlas_has_whole_frames_with_a_pose_and_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    poses = walk(40)
    record(settings.data.recordings_dir, "a", [pose for pose in poses for _ in range(2)])
    nowhere = replace(pose_at(0, 0, 0), position=(1e30, 0, 0))
    record(settings.data.recordings_dir, "b", [*walk(3, seed=1), nowhere])
    atlas = built(settings)
    assert atlas is not None
    assert len(atlas) == 43
    assert atlas.layout == LAYOUT
    for pose, known in zip(poses, atlas.poses, strict=False):
        np.testing.assert_allclose(known.position, pose.position, rtol=1e-6)
    assert psnr_db(atlas.picture(0), seen(poses[0])) > 35
    fewer = built(settings_of(tmp_path, "atlas.max_pictures=33"))
    assert fewer is not None
    assert len(fewer) == 33


def test_a_client_of_many_broken_pictures_of_a_size_of_its_own_costs_no_atlas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    root = settings.data.recordings_dir
    record(root, "a", walk(40))
    record(tmp_path / "whole", "b", walk(50, seed=1))
    (whole,) = find_segments(tmp_path / "whole")
    writer = SegmentWriter(
        root / KEY / "b" / "000000.h5",
        checkpoint_key=KEY,
        session_id="b",
        max_state_dim=64,
        sentinel=-999.0,
    )
    with SegmentReader(whole.path) as reader:
        writer.append([replace(frame, width=16, height=12, keyframe=b"?") for frame in reader])
    writer.sync()
    writer.seal()
    atlas = built(settings)
    assert atlas is not None
    assert len(atlas) == 40


def test_without_poses_or_with_too_few_frames_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    assert built(settings) is None
    record(settings.data.recordings_dir, "a", walk(31))
    assert built(settings) is None
    record(settings.data.recordings_dir, "b", walk(1, seed=1))
    assert built(settings) is not None
    assert built(settings, key="atari-pong") is None
    assert built(settings_of(tmp_path, "atlas.max_pictures=0")) is None
    longer = f"atlas.layouts={{doom-*: {POSES.replace('4', '5')}}}"
    assert built(settings_of(tmp_path, longer)) is None
    stop = threading.Event()
    stop.set()
    assert built(settings, stop=stop) is None


def test_what_was_known_is_kept_and_its_camera_is_begun_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def noted(atlas: Atlas, by: tuple[float, ...], stop: threading.Event) -> Atlas:
        steps.append(by)
        return atlas

    monkeypatch.setattr(building, "calibrated", noted)
    settings = settings_of(tmp_path)
    record(settings.data.recordings_dir, "a", walk(40))
    known = atlas_of(walk(20, seed=5))
    atlas = built(settings, known=known)
    assert atlas is not None
    assert atlas.camera == CAMERA
    assert atlas.poses[:20] == known.poses
    assert len(atlas) == 60
    again = built(settings, known=atlas)
    assert again is not None
    assert len(again) == 60
    other = built(settings, known=replace(known, width=99))
    assert other is not None
    assert len(other) == 40
    assert other.camera != CAMERA
    assert steps == [building.STEPS_FROM_A_KNOWN_ONE] * 2 + [building.STEPS]


def test_a_run_with_a_few_whole_frames_loses_nothing_that_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    known = atlas_of(walk(40, seed=5))
    alone = built(settings, known=known)
    assert alone is not None
    assert alone.poses == known.poses
    record(settings.data.recordings_dir, "a", walk(3))
    more = built(settings, known=known)
    assert more is not None
    assert len(more) == 43
    assert built(settings, known=atlas_of(walk(20, seed=5))) is None
    nearer = PoseLayout(values=LAYOUT.values, nearest=LAYOUT.nearest / 2)
    assert built(settings, known=replace(known, layout=nearer)) is None


def halved(atlas: Atlas) -> Atlas:
    small = [atlas.picture(index)[::2, ::2] for index in range(len(atlas))]
    return Atlas.of(
        [encoded(picture, 80) for picture in small],
        atlas.poses,
        width=WIDTH // 2,
        height=HEIGHT // 2,
        layout=atlas.layout,
        camera=atlas.camera,
    )


def test_a_few_pictures_of_another_size_do_not_take_the_place_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    record(settings.data.recordings_dir, "a", walk(building.FEWEST_PICTURES))
    many = halved(atlas_of(walk(40, seed=5)))
    kept = built(settings, known=many)
    assert kept is not None
    assert (kept.width, kept.poses) == (WIDTH // 2, many.poses)
    record(settings.data.recordings_dir, "b", walk(9, seed=1))
    other = built(settings, known=many)
    assert other is not None
    assert (other.width, len(other)) == (WIDTH, 41)


def test_what_was_known_outlives_an_atlas_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.run, "build_atlas", fails)
    settings = settings_of(tmp_path)
    known, model = atlas_of(walk(5)), build_model(settings.model)
    champion = Champion(model=model, settings=settings.model, version="v1", atlas=known)
    nothing = Split(train=(), val=())

    def of(key: str, settings: Settings) -> Atlas | None:
        return trainer.run._atlas(key, nothing, champion, model, settings, RUNNING)

    assert of(KEY, settings) is known
    assert of("atari-pong", settings) is None
    assert of(KEY, settings_of(tmp_path, "atlas.max_pictures=0")) is None


def test_an_atlas_has_no_more_bytes_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncalibrated(monkeypatch)
    settings = settings_of(tmp_path)
    record(settings.data.recordings_dir, "a", walk(60))
    whole = built(settings)
    assert whole is not None
    half_bytes = sum(map(len, whole.pictures)) // 2
    monkeypatch.setattr(building, "MAX_ATLAS_BYTES", half_bytes + building.BYTES_BESIDE)
    fewer = built(settings)
    assert fewer is not None
    assert 20 < len(fewer) < 31
    assert sum(map(len, fewer.pictures)) <= half_bytes
    assert not set(fewer.poses) <= set(whole.poses[:31])


def test_pictures_are_chosen_from_all_over_the_level() -> None:
    crowd = [pose_at(0.1 * n, 0, 0) for n in range(60)]
    elsewhere = [pose_at(150, 0, 0), pose_at(0, -150, 0), pose_at(0, 0, 180)]
    chosen = far_apart([*crowd, *elsewhere], 6, LAYOUT, RUNNING)
    assert len(set(chosen)) == 6
    assert set(elsewhere) < set(chosen)
    assert far_apart(crowd, 60, LAYOUT, RUNNING) == crowd


def soon_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "PROBES", 32)
    monkeypatch.setattr(teaching, "STEPS", 40)


def train(settings: Settings) -> RunReport:
    segments = find_segments(settings.data.recordings_dir, KEY)
    return train_key(KEY, segments, settings, stop=RUNNING, report=lambda _: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, RunReport]:
    settings = settings_of(tmp_path_factory.mktemp("trained"))
    for seed, session in enumerate("abcd"):
        record(settings.data.recordings_dir, session, walk(60, seed=seed))
    with pytest.MonkeyPatch.context() as monkeypatch:
        soon_taught(monkeypatch)
        return settings, train(settings)


def frame_of(pose: Pose, *, state: bool) -> FrameInput:
    return FrameInput(
        checkpoint_key=KEY,
        samples=squares_of(seen(pose)),
        state=state_of(pose) if state else np.empty(0, np.float32),
        width=seen(pose).shape[1],
        height=seen(pose).shape[0],
        history=(),
    )


def test_a_run_publishes_the_atlas_and_a_reconstructor_serves_by_it(
    trained: tuple[Settings, RunReport],
) -> None:
    settings, report = trained
    assert report.published is not None
    assert report.published.atlas is not None
    assert report.published.atlas.pictures == 180
    assert report.atlas_gain_db > 1
    assert report.challenger.psnr_db == report.published.metrics.val_psnr_db
    reconstructor = NeuralReconstructor([CheckpointStore(settings.data.checkpoints_dir)], settings)
    gains, told = [], []
    for pose in walk(6, seed=77):
        frames = [frame_of(pose, state=state) for state in (True, False)]
        knowing, guessing = reconstructor.reconstruct(frames)
        gains.append(psnr_db(knowing.image, seen(pose)) - psnr_db(guessing.image, seen(pose)))
        assert knowing.predicted_psnr_db is not None
        assert guessing.predicted_psnr_db is not None
        told.append(knowing.predicted_psnr_db - guessing.predicted_psnr_db)
    assert np.mean(gains) > 1
    assert np.mean(told) > 0


def test_a_wrong_state_costs_what_the_atlas_gains(
    trained: tuple[Settings, RunReport], tmp_path: Path
) -> None:
    settings, _ = trained
    record(tmp_path, "held-out", walk(8, seed=99))
    data = settings.data.model_copy(update={"test": (tmp_path,)})
    report, _ = compare(KEY, settings.model_copy(update={"data": data}), frames=8)
    served = "80 samples, model, closed loop: squares, by predicted_error"
    assert report.gains_db[f"{served} over no atlas"].value > 1
    assert report.gains_db[f"{served} over wrong state"].value > 1
    assert report.gains_db[f"{served} over no state"].value > 1


def test_an_atlas_that_does_not_help_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures were taken elsewhere than it says."""
    soon_taught(monkeypatch)
    elsewhere = atlas_of(walk(60))
    shuffled = replace(elsewhere, poses=tuple(walk(60, seed=8)))
    monkeypatch.setattr(trainer.run, "build_atlas", lambda *_, **__: shuffled)
    monkeypatch.setattr(trainer.contest, "_champion_held_out", lambda *_: NOTHING)
    settings = settings_of(tmp_path)
    for seed, session in enumerate("ab"):
        record(settings.data.recordings_dir, session, walk(20, seed=seed))
    report = train(settings)
    assert report.published is not None
    assert report.published.atlas is None
    assert report.atlas_gain_db == 0


def test_a_training_outlives_an_atlas_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.run, "build_atlas", fails)
    monkeypatch.setattr(trainer.contest, "_champion_held_out", lambda *_: NOTHING)
    settings = settings_of(tmp_path)
    for seed, session in enumerate("ab"):
        record(settings.data.recordings_dir, session, walk(20, seed=seed))
    assert train(settings).published is not None
