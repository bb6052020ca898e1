"""What a run has to beat, what it goes on from, and on what that was trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import CheckpointUnreadable
from sgaps.manifest import DataCard, Metrics
from sgaps.model import CheckpointStore, SparsePixelTransformer, build_model
from sgaps.settings import Settings
from toy_models import publish
from trainer import run
from trainer.champion import champion_of
from trainer.fit import FitReport, fit
from training.toy_recordings import KEY, record, toy_settings, train


def test_where_a_keys_own_checkpoint_is_for_color_the_general_one_is_the_champion(
    tmp_path: Path,
) -> None:
    """As it is what serves the key."""
    data = (settings := toy_settings(tmp_path)).data
    general = publish(data.shipped_dir, DEFAULT_KEY)
    publish(data.checkpoints_dir, KEY, color_channels=3)
    assert champion_of(KEY, settings).version == general.model_version


def test_a_model_of_another_shape_has_to_beat_what_serves(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=24)
    first = train(settings)
    assert first.published is not None
    other = ("model.ffn_dim=40", "model.history_frames=1", "model.attended_frames=1")
    report = train(
        toy_settings(tmp_path, *other, "training.max_epochs=1", "training.min_gain_db=50")
    )
    assert report.champion_version == first.published.model_version
    assert report.champion.psnr_db == pytest.approx(first.challenger.psnr_db, abs=1e-3)
    assert report.published is None
    assert CheckpointStore(settings.data.checkpoints_dir).current(KEY) == first.published


def test_a_model_of_another_shape_starts_from_the_general_one_that_has_it(
    soon_better: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an update that brings a general checkpoint of a new shape."""
    settings = soon_better
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    own = train(settings).published
    assert own is not None
    other = toy_settings(tmp_path, "model.ffn_dim=40", "training.max_epochs=1")
    CheckpointStore(settings.data.shipped_dir).publish(
        DEFAULT_KEY,
        build_model(other.model),
        settings=other.model,
        metrics=own.metrics,
        parent=None,
        data=own.data.model_copy(update={"train_sessions": own.data.val_sessions}),
        training={},
    )
    begun: list[torch.Tensor] = []

    def fit_seen(model: SparsePixelTransformer, *args: Any, **kwargs: Any) -> FitReport:
        begun.append(model.grid.patch.weight.detach().clone())
        return fit(model, *args, **kwargs)

    monkeypatch.setattr("trainer.run.fit", fit_seen)
    assert train(other).champion_version == own.model_version
    shipped, *_ = CheckpointStore(settings.data.shipped_dir).load_current(DEFAULT_KEY)
    torch.testing.assert_close(begun[0], shipped.grid.patch.weight, rtol=0, atol=0)
    assert "was trained on what is held out" in caplog.text  # by the general one
    shutil.rmtree(settings.data.shipped_dir)
    train(other)
    assert not torch.equal(begun[1], begun[0])


def test_a_run_ends_where_its_champion_cannot_be_read(
    soon_better: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A challenger that had only to beat the prior would take its place."""
    settings = soon_better
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    assert train(settings).published is not None

    def no_descriptor(*_: object) -> bytes:
        raise CheckpointUnreadable("no descriptor left")

    monkeypatch.setattr(CheckpointStore, "read_file", no_descriptor)
    with pytest.raises(CheckpointUnreadable):
        train(settings)


def test_a_champion_that_knows_all_is_said_to(
    soon_better: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = soon_better
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    first = train(settings).published
    assert first is not None
    shutil.rmtree(settings.data.recordings_dir / KEY / first.data.val_sessions[0])
    train(settings)
    assert "was trained on what is held out" in caplog.text


def test_a_champion_was_trained_on_what_its_parents_were(tmp_path: Path) -> None:
    """But for those of another shape, whose weights it has not."""
    settings = toy_settings(tmp_path)
    other = toy_settings(tmp_path, "model.embed_dim=16")
    parent = None
    runs = [
        ("other", other, tmp_path / "shipped", DEFAULT_KEY),
        ("general", settings, tmp_path / "shipped", DEFAULT_KEY),
        ("first", settings, settings.data.checkpoints_dir, KEY),
        ("second", settings, settings.data.checkpoints_dir, KEY),
    ]
    for session, shape, root, key in runs:
        manifest = CheckpointStore(root).publish(
            key,
            build_model(shape.model),
            settings=shape.model,
            metrics=Metrics(val_psnr_db=21, champion_psnr_db=20),
            parent=parent,
            data=DataCard(frames=1, train_sessions=(session,), val_sessions=("held_out",)),
            training={},
        )
        parent = manifest.model_version
    assert champion_of(KEY, settings).trained_on == {"general", "first", "second"}
    shutil.rmtree(settings.data.checkpoints_dir / KEY / str(manifest.parent))
    assert champion_of(KEY, settings).trained_on == {"second"}


def test_what_was_rolled_back_during_a_run_does_not_come_back_unmeasured(
    soon_better: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = soon_better
    for name in ("a", "b"):
        record(settings.data.recordings_dir, name, frames=4)
    root = settings.data.checkpoints_dir
    first, second = (publish(root, KEY, seed=seed).model_version for seed in range(2))

    def rolled_back(*arguments: Any, **options: Any) -> FitReport:
        CheckpointStore(root).promote(KEY, first)
        return fit(*arguments, **options)

    monkeypatch.setattr(run, "fit", rolled_back)
    report = train(settings)
    assert report.champion_version == first
    assert (report.champion.psnr_db, report.challenger.psnr_db) == (2, 1)  # measured last: best
    assert report.published is None
    assert CheckpointStore(root).current_version(KEY) == first
    assert second in CheckpointStore(root).versions(KEY)
