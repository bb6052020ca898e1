"""The training loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sgaps.errors import SgapsError
from sgaps.model import SparsePixelTransformer
from sgaps.settings import Settings, TrainingSettings
from trainer.augment import AugmentationPipeline
from trainer.batch import Batch, make_batch
from trainer.dataset import RecordingDataset
from trainer.losses import ReconstructionLoss


class TrainingFailed(SgapsError):
    """The loss is no longer finite; nothing of the run is kept."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is."""

    step: int
    part: float
    """0..1, of the steps or of the time, whichever ends first."""
    loss: float
    elapsed_secs: float


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """How a run went."""

    steps: int
    secs: float
    last_loss: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then a cosine to zero, over steps or seconds, whichever ends first."""

    warmup_steps: int
    total_steps: int
    max_secs: float

    def part(self, step: int, elapsed_secs: float) -> float:
        """How much is done: 0 at first, 1 at the end."""
        return min(1.0, max(step / self.total_steps, elapsed_secs / self.max_secs))

    def done(self, step: int, elapsed_secs: float) -> bool:
        return self.part(step, elapsed_secs) >= 1

    def factor(self, step: int, elapsed_secs: float) -> float:
        """What the learning rate is multiplied with."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return 0.5 * (1 + math.cos(math.pi * self.part(step, elapsed_secs)))


def fit(
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    *,
    stop: threading.Event,
    report: Callable[[Progress], None],
) -> FitReport:
    """Train in place until the schedule is done or told to stop.

    Raises TrainingFailed, and PerceptualUnavailable where loss.perceptual lacks its weights.

    What stays in the model is the moving average of its weights (training.ema_decay).
    """
    training = settings.training
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    steps_per_epoch = math.ceil(len(dataset) / training.batch_size)
    schedule = Schedule(
        warmup_steps=min(training.warmup_epochs, training.max_epochs // 2) * steps_per_epoch,
        total_steps=training.max_epochs * steps_per_epoch,
        max_secs=training.max_secs,
    )
    augmentation = AugmentationPipeline(settings.augmentation, sentinel=settings.sentinel_value)
    stepper = _Stepper(model, settings)
    started_at_secs, step, loss = time.monotonic(), 0, math.nan
    model.train()
    for indices in _batches(dataset, training, rng):
        elapsed_secs = time.monotonic() - started_at_secs
        if stop.is_set() or schedule.done(step, elapsed_secs):
            break
        counts = sample_counts(settings, schedule.part(step, elapsed_secs))
        shape = augmentation.shape(int(rng.choice(counts)), rng)
        examples = [dataset.example(i, shape) for i in indices]
        batch = make_batch(examples, settings, stepper.device)
        loss = stepper.step(batch, schedule.factor(step, elapsed_secs))
        step += 1
        part = schedule.part(step, elapsed_secs)
        report(Progress(step=step, part=part, loss=loss, elapsed_secs=elapsed_secs))
    stepper.finish()
    return FitReport(steps=step, secs=time.monotonic() - started_at_secs, last_loss=loss)


def sample_counts(settings: Settings, part: float) -> tuple[int, ...]:
    """Counts to choose from for a batch, when so much of a run is done (0..1)."""
    phases = settings.training.curriculum
    if not phases:
        return (settings.sampling.default_sample_count,)
    ends = np.cumsum([phase.epochs for phase in phases])
    which = int(np.searchsorted(ends, part * ends[-1], side="right"))
    return phases[min(which, len(phases) - 1)].samples


def _batches(
    dataset: RecordingDataset, training: TrainingSettings, rng: np.random.Generator
) -> Iterator[list[int]]:
    """Indices of every batch of a run."""
    for _ in range(training.max_epochs):
        yield from dataset.batches(training.batch_size, rng)
        dataset.next_epoch()


class _Stepper:
    """One optimiser and what a step does."""

    def __init__(self, model: SparsePixelTransformer, settings: Settings) -> None:
        training = settings.training
        self._model = model
        self._training = training
        self.device = next(model.parameters()).device
        self._loss = ReconstructionLoss(settings.loss).to(self.device)
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        mean = get_ema_multi_avg_fn(training.ema_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(model, multi_avg_fn=mean)
        self._average.update_parameters(model)  # the average begins where the run begins
        self._accumulated = 0

    def step(self, batch: Batch, learning_rate_factor: float) -> float:
        """Forward, backward, and every accumulation_steps an update; the loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self._model(batch.inputs)
        loss, _ = self._loss(output, batch)
        if not torch.isfinite(loss):
            raise TrainingFailed(f"the loss became {loss.item()}; lower training.learning_rate")
        (loss / self._training.accumulation_steps).backward()
        self._accumulated += 1
        if self._accumulated == self._training.accumulation_steps:
            self._update(learning_rate_factor)
        return float(loss.detach())

    def _update(self, learning_rate_factor: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._training.learning_rate * learning_rate_factor
        nn.utils.clip_grad_norm_(self._model.parameters(), self._training.gradient_clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._average.update_parameters(self._model)
        self._accumulated = 0

    def finish(self) -> None:
        """Put the averaged weights in the model."""
        self._model.load_state_dict(self._average.module.state_dict())
