"""The log of a run: numbers, curves and pictures in a folder, and in Weights & Biases.

data/runs/doom-deathmatch/20261124-120000/
    metrics.jsonl        a line per step and per look
    curves.png           loss, PSNR and SSIM over the steps, PSNR over the sample count
    step-000500.png      held-out frames as they were rebuilt then
    wandb/               where the package is installed and logging.wandb is not disabled
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
from matplotlib.figure import Figure

from sgaps.errors import SgapsError
from sgaps.settings import LoggingSettings, Settings
from trainer.pictures import stacked
from trainer.schedule import Progress
from trainer.snapshot import Look

if TYPE_CHECKING:
    import wandb

CURVES_NAME, METRICS_NAME = "curves.png", "metrics.jsonl"
SMOOTHED_STEPS = 50


class RunLog:
    """Of one run. Close it: only then the curves are drawn.

    Raises SgapsError where there can be no folder, or W&B refuses the run.
    """

    def __init__(self, key: str, settings: Settings) -> None:
        started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        wanted = settings.data.runs_dir / key / started
        try:
            self.folder = _new_folder(wanted)
            self._metrics = (self.folder / METRICS_NAME).open("w")
        except OSError as error:
            raise SgapsError(
                f"no log can be written to {wanted} ({error}): name another folder with "
                "data.runs_dir=…"
            ) from error
        try:
            self._wandb = _wandb_run(key, self.folder, settings)
        except SgapsError:
            self._metrics.close()
            shutil.rmtree(self.folder)
            raise
        self._losses: list[tuple[int, float]] = []
        self._looks: list[tuple[int, Look]] = []
        self._efficiency: dict[int, float] = {}

    def step(self, progress: Progress) -> None:
        """Loss, its terms and the learning rate."""
        self._losses.append((progress.step, progress.loss))
        self._write(progress.step, {k: v for k, v in asdict(progress).items() if k != "step"})

    def look(self, step: int, look: Look) -> None:
        """Scores and pictures of held-out frames."""
        self._looks.append((step, replace(look, strips=())))  # pictures are not for memory
        self._write(step, {"val_psnr_db": look.psnr_db, "val_ssim": look.ssim})
        if look.strips:
            pictures = stacked(look.strips)
            cv2.imwrite(str(self.folder / f"step-{step:06d}.png"), pictures)
            if self._wandb:
                from wandb import Image  # noqa: PLC0415 - optional

                self._wandb.log({"held_out": Image(pictures)}, step=step)
        self._metrics.flush()

    def efficiency(self, step: int, psnr_db_by_count: Mapping[int, float]) -> None:
        """PSNR by sample count, at the end."""
        self._efficiency = dict(psnr_db_by_count)
        self._write(step, {f"psnr_db_at_{n}": v for n, v in self._efficiency.items()})

    def close(self) -> None:
        """Draw the curves, end the W&B run. A run that never began leaves nothing."""
        self._metrics.close()
        if self._wandb:
            self._wandb.finish()
        if not (self._losses or self._efficiency):
            shutil.rmtree(self.folder)
            return
        _curves(self._losses, self._looks, self._efficiency).savefig(self.folder / CURVES_NAME)

    def _write(self, step: int, numbers: Mapping[str, Any]) -> None:
        # As msgspec has it, a number that is not finite is null: JSON has no NaN.
        self._metrics.write(msgspec.json.encode({"step": step, **numbers}).decode() + "\n")
        if self._wandb:
            self._wandb.log(dict(numbers), step=step)


def wandb_is_wanted_but_missing(settings: LoggingSettings) -> bool:
    """Whether a run will be logged as files only, against what is configured."""
    return settings.wandb != "disabled" and importlib.util.find_spec("wandb") is None


def _new_folder(wanted: Path) -> Path:
    """Two runs of one second do not share a folder."""
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(wanted)


def _wandb_run(key: str, folder: Path, settings: Settings) -> wandb.Run | None:
    if settings.logging.wandb == "disabled" or wandb_is_wanted_but_missing(settings.logging):
        return None
    import wandb  # noqa: PLC0415 - optional, and it takes a second

    try:
        return wandb.init(
            project=settings.logging.wandb_project,
            mode=settings.logging.wandb,
            name=f"{key}-{folder.name}",
            group=key,
            dir=folder,
            # Others hold secrets.
            config=settings.model_dump(mode="json", exclude={"bus", "server", "tracing"}),
            # The log is for the run's numbers: no source, no machine, nothing of the terminal.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
    except wandb.errors.Error as error:
        raise SgapsError(
            f"W&B refuses this run ({error}): `wandb login`, another name by "
            "logging.wandb_project=…, or logging.wandb=offline, which needs no account"
        ) from error


def _curves(
    losses: list[tuple[int, float]], looks: list[tuple[int, Look]], efficiency: dict[int, float]
) -> Figure:
    figure = Figure(figsize=(15, 4), layout="constrained")
    loss, psnr, similarity, samples = figure.subplots(1, 4)
    steps, values = [s for s, _ in losses], [v for _, v in losses]
    loss.plot(steps, values, alpha=0.3)
    loss.plot(steps, _smoothed(values))
    loss.set(title="loss", xlabel="step")
    at = [s for s, _ in looks]
    psnr.plot(at, [look.psnr_db for _, look in looks], marker="o")
    psnr.set(title="held-out PSNR, dB", xlabel="step")
    similarity.plot(at, [np.nan if k.ssim is None else k.ssim for _, k in looks], marker="o")
    similarity.set(title="held-out SSIM", xlabel="step")
    samples.plot(list(efficiency), list(efficiency.values()), marker="o")
    samples.set(title="held-out PSNR, dB", xlabel="samples per frame")
    for axes in (loss, psnr, similarity, samples):
        axes.grid(alpha=0.3)
    return figure


def _smoothed(values: list[float]) -> list[float]:
    """Means of each value and those before it."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - SMOOTHED_STEPS)
    return list((sums[ends] - sums[starts]) / (ends - starts))
