"""What a run leaves to look at: numbers, curves, pictures."""

from __future__ import annotations

import errno
import json
import math
import threading
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from sgaps.errors import SgapsError
from sgaps.recording import find_segments
from tools import require
from trainer.run import RunOptions, RunReport, train_key
from trainer.run_log import RunLog
from training.toy_recordings import KEY, record, toy_settings


def logged_run(tmp_path: Path, *overrides: str) -> tuple[RunLog, RunReport]:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=16)
    settings = toy_settings(
        tmp_path,
        "training.max_epochs=3",
        "logging.look_every_secs=0.01",
        f"data.runs_dir={tmp_path / 'runs'}",
        *overrides,
    )
    log = RunLog(KEY, settings)
    report = train_key(
        KEY,
        find_segments(settings.data.recordings_dir, KEY),
        settings,
        stop=threading.Event(),
        report=lambda _: None,
        options=RunOptions(log=log),
    )
    log.close()
    return log, report


def test_a_run_leaves_numbers_curves_and_pictures(tmp_path: Path) -> None:
    log, report = logged_run(tmp_path, "logging.wandb=disabled")
    lines = [json.loads(line) for line in (log.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    looks = [line for line in lines if "val_psnr_db" in line]
    assert [line["step"] for line in steps] == list(range(1, report.fit.steps + 1))
    assert set(steps[0]["terms"]) == {"full", "log_error"}
    assert (looks[0]["step"], looks[-1]["step"]) == (0, report.fit.steps)
    assert looks[-1]["val_psnr_db"] > looks[0]["val_psnr_db"]
    assert looks[-1]["val_ssim"] > looks[0]["val_ssim"]
    assert lines[-1]["psnr_db_at_500"] > lines[-1]["psnr_db_at_125"]
    for name in ("curves.png", "step-000000.png", f"step-{report.fit.steps:06d}.png"):
        picture = cv2.imread(str(log.folder / name))
        assert picture is not None
        assert picture.std() > 0
    assert not (log.folder / "wandb").exists()
    assert not any(look.strips for _, look in log._looks)  # which would fill memory


def test_a_log_that_fails_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("step", "look", "efficiency"):
        monkeypatch.setattr(RunLog, name, full)
    _, report = logged_run(tmp_path, "logging.wandb=disabled")
    assert report.published is not None
    assert caplog.text.count("the log of this run has gaps") == 1


def test_a_run_is_logged_to_wandb_offline(tmp_path: Path) -> None:
    require(find_spec("wandb"), "wandb")
    log, _ = logged_run(tmp_path, "logging.wandb=offline")
    (run,) = (log.folder / "wandb").glob("offline-run-*")
    assert next(run.glob("run-*.wandb")).stat().st_size > 1000
    assert list(run.glob("files/media/images/held_out_*.png"))


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    """JSON has no NaN, and whoever reads the log may not know Python's."""
    settings = toy_settings(tmp_path, f"data.runs_dir={tmp_path}", "logging.wandb=disabled")
    log = RunLog(KEY, settings)
    log.efficiency(7, {125: math.nan, 500: 21.5})
    log.close()
    line = (log.folder / "metrics.jsonl").read_text()
    assert line == '{"step":7,"psnr_db_at_125":null,"psnr_db_at_500":21.5}\n'


def test_what_wandb_refuses_is_told_and_leaves_no_folder(tmp_path: Path) -> None:
    require(find_spec("wandb"), "wandb")
    runs = tmp_path / "runs"
    settings = toy_settings(tmp_path, f"data.runs_dir={runs}", "logging.wandb_project=a/b")
    with pytest.raises(
        SgapsError, match=r"found '/'.*`wandb login`.*wandb_project=.*logging\.wandb=offline"
    ):
        RunLog(KEY, settings)
    assert not list((runs / KEY).iterdir())


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path, f"data.runs_dir={tmp_path}", "logging.wandb=disabled")
    logs = [RunLog(KEY, settings) for _ in range(3)]
    for log in logs:
        log.close()
    assert len({log.folder for log in logs}) == 3
    assert not any(log.folder.exists() for log in logs)  # of runs that never began


def test_a_folder_of_runs_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = toy_settings(tmp_path, f"data.runs_dir={tmp_path / 'file' / 'runs'}")
    with pytest.raises(SgapsError, match=r"no log can be written to .*data\.runs_dir="):
        RunLog(KEY, settings)
