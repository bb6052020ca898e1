"""What decides between champion and challenger: what the loss counts, in dB."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from pytorch_msssim import ssim

from sgaps.manifest import Metrics
from sgaps.model import CheckpointStore, build_model
from sgaps.recording import find_segments
from trainer import contest
from trainer.rebuild import rebuilt
from trainer.validation import DB_PER_NAT, HeldOut, frame_psnr_db, validate
from training.toy_recordings import KEY, dataset_of, record, toy_settings, train


@pytest.mark.parametrize("keyframes", [True, False])
def test_the_score_takes_what_the_loss_counts_to_the_eye_off_the_psnr(
    tmp_path: Path, keyframes: bool
) -> None:
    """Of whole frames: of samples alone nothing to the eye is known."""
    settings = toy_settings(tmp_path, "loss.full=2", "loss.structural=0.5")
    record(settings.data.recordings_dir, "a", frames=6, keyframes=keyframes)
    examples = dataset_of(find_segments(settings.data.recordings_dir))
    model = build_model(settings.model).eval()
    held_out = validate(model, examples, settings, max_examples=1, stop=Event())
    batch, output = rebuilt(model, examples[0], settings)
    assert held_out.psnr_db == pytest.approx(frame_psnr_db(output.frame, batch))
    if batch.target is None:
        assert held_out.score_db == held_out.psnr_db
    else:
        unlike = 1 - float(ssim(output.frame, batch.target, data_range=1.0))
        assert unlike > 0.1
        assert held_out.score_db == pytest.approx(held_out.psnr_db - DB_PER_NAT * 0.25 * unlike)


def test_a_loss_of_squared_errors_alone_scores_by_psnr(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=2)
    examples = dataset_of(find_segments(settings.data.recordings_dir))
    held_out = validate(
        build_model(settings.model), examples, settings, max_examples=1, stop=Event()
    )
    assert held_out.score_db == held_out.psnr_db
    assert held_out.told_against(HeldOut(psnr_db=1, score_db=1)).endswith(" dB against 1.00 dB")


@pytest.mark.parametrize("gain_db", [0.5, -0.5])
def test_the_score_decides_and_not_the_psnr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain_db: float
) -> None:
    settings = toy_settings(tmp_path, "training.max_epochs=1")
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=6)
    champion = HeldOut(psnr_db=20.0, score_db=15.0)
    challenger = HeldOut(psnr_db=20 - gain_db / 2, score_db=15 + gain_db)
    judged = iter([champion, challenger])
    monkeypatch.setattr(contest, "validate", lambda *_, **__: next(judged))
    report = train(settings)
    if gain_db < 0:
        assert report.published is None
        return
    serving = CheckpointStore(settings.data.checkpoints_dir).load_current(KEY)
    assert serving.manifest == report.published
    assert serving.manifest.metrics == Metrics(
        val_psnr_db=19.75, champion_psnr_db=20, val_score_db=15.5, champion_score_db=15
    )
