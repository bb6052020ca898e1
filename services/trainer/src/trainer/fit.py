"""The training loop."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sgaps.errors import SgapsError
from sgaps.model import SparsePixelTransformer, network_precision
from sgaps.settings import Settings
from trainer.batch import Batch, make_batch
from trainer.dataset import RecordingDataset
from trainer.loader import BatchPlan, load, steps_per_epoch
from trainer.losses import ReconstructionLoss
from trainer.ranks import ALONE, Ranks
from trainer.saved_run import RunHeader, SavedRun, save_run

log = logging.getLogger(__name__)

Params: TypeAlias = tuple[Tensor, ...] | list[Tensor]
Averaging: TypeAlias = Callable[[Params, Params, Tensor | int], None]


class TrainingFailed(SgapsError):
    """The loss is no longer finite, or nothing was learned; nothing of the run is kept."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is."""

    step: int
    part: float
    """0..1, of the steps or of the time, whichever ends first."""
    loss: float
    terms: dict[str, float]
    """Of the loss, unweighted."""
    learning_rate: float
    elapsed_secs: float


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """How a run went."""

    steps: int
    secs: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then a cosine to zero, over steps or seconds, whichever ends first."""

    warmup_part: float
    """Of the run."""
    total_steps: int
    max_secs: float

    def part(self, step: int, elapsed_secs: float) -> float:
        """How much is done: 0 at first, 1 at the end."""
        return min(1.0, max(step / self.total_steps, elapsed_secs / self.max_secs))

    def done(self, step: int, elapsed_secs: float) -> bool:
        return self.part(step, elapsed_secs) >= 1

    def factor(self, step: int, elapsed_secs: float) -> float:
        """What the learning rate is multiplied with."""
        part = self.part(step, elapsed_secs)
        if part < self.warmup_part:  # where the step will have led: never 0
            return min(1.0, self.part(step + 1, elapsed_secs) / self.warmup_part)
        return 0.5 * (1 + math.cos(math.pi * part))


def fit(
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    *,
    stop: threading.Event,
    report: Callable[[Progress], None],
    ranks: Ranks = ALONE,
    memory: RunMemory | None = None,
    look: Callable[[int, SparsePixelTransformer], None] | None = None,
) -> FitReport:
    """Train in place until the schedule is done or told to stop.

    Raises TrainingFailed, and PerceptualUnavailable where loss.perceptual lacks its weights.

    What stays in the model is the moving average of its weights (training.ema_decay). With a
    memory the run begins where it ended the last time, if it was cut off. Now and then `look`
    is shown the step and the averaged model.
    """
    training = settings.training
    torch.manual_seed(training.seed)
    # Without whole frames there is nothing to teach the error head.
    together = ranks.together(model, trains_all=dataset.has_keyframes)
    stepper = _Stepper(model, together, settings)
    step, before_secs = memory.recall(stepper) if memory else (0, 0.0)
    started_at_secs = time.monotonic() - before_secs
    last_save_secs = last_look_secs = before_secs
    epoch_steps = steps_per_epoch(dataset, training, ranks)
    schedule = Schedule(
        warmup_part=min(training.warmup_epochs / training.max_epochs, 0.5),
        total_steps=training.max_epochs * epoch_steps,
        max_secs=training.max_secs,
    )

    def counts(ahead: int) -> tuple[int, ...]:
        return sample_counts(settings, schedule.part(ahead, time.monotonic() - started_at_secs))

    plan = BatchPlan(dataset, settings, ranks=ranks, first_step=step, counts=counts)
    model.train()
    for examples in load(dataset, plan, workers=training.workers):
        elapsed_secs = time.monotonic() - started_at_secs
        if ranks.any_of(stop.is_set() or schedule.done(step, elapsed_secs)):
            break
        factor = schedule.factor(step, elapsed_secs)
        loss, terms = stepper.step(make_batch(examples, settings, stepper.device), factor)
        step += 1
        report(
            Progress(
                step=step,
                part=schedule.part(step, elapsed_secs),
                loss=loss,
                terms=terms,
                learning_rate=training.learning_rate * factor,
                elapsed_secs=elapsed_secs,
            )
        )
        if memory and elapsed_secs - last_save_secs > training.save_every_secs:
            memory.keep(stepper, step, elapsed_secs)
            last_save_secs = elapsed_secs
        if look and elapsed_secs - last_look_secs > settings.logging.look_every_secs:
            look(step, stepper.averaged())
            last_look_secs = elapsed_secs
    elapsed_secs = time.monotonic() - started_at_secs
    if ranks.any_of(stop.is_set()):
        stop.set()  # on every rank: none may take the run for a whole one
    if step and not (stepper.has_learned or stop.is_set()):
        raise TrainingFailed(
            f"nothing was learned in {step} steps: lower training.accumulation_steps"
        )
    if memory:  # also of a whole run, which can still be cut off before it is published
        memory.keep(stepper, step, elapsed_secs)
    stepper.finish()
    return FitReport(steps=step, secs=elapsed_secs)


def sample_counts(settings: Settings, part: float) -> tuple[int, ...]:
    """Counts to choose from for a batch, when so much of a run is done (0..1)."""
    phases = settings.training.curriculum
    if not phases:
        return (settings.sampling.default_sample_count,)
    ends = np.cumsum([phase.epochs for phase in phases])
    which = int(np.searchsorted(ends, part * ends[-1], side="right"))
    return phases[min(which, len(phases) - 1)].samples


def moving_average(decay: float) -> Averaging:
    """Exponential, of the weights; it reaches back no farther than the run is old (Abadi 2015).

    Else what is published of a short run would be mostly what it began with.
    """

    def average(averaged: Params, current: Params, updates: Tensor | int) -> None:
        count = int(updates)
        share = min(decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(share)(averaged, current, updates)  # type: ignore[no-untyped-call]

    return average


class _Stepper:
    """One optimiser and what a step does."""

    def __init__(
        self, model: SparsePixelTransformer, together: nn.Module, settings: Settings
    ) -> None:
        """`together` is the same model, as Ranks made it."""
        training = settings.training
        self._model = model
        self._together = together
        self._training = training
        self.device = next(model.parameters()).device
        self._loss = ReconstructionLoss(settings.loss).to(self.device)
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self._average = AveragedModel(model, multi_avg_fn=moving_average(training.ema_decay))
        self._average.update_parameters(model)  # the average begins where the run begins
        self.accumulated = 0
        """Steps since the last update: what is lost when a run is cut off here."""

    def step(self, batch: Batch, learning_rate_factor: float) -> tuple[float, dict[str, float]]:
        """Forward, backward, and every accumulation_steps an update; the loss and its terms."""
        with network_precision(self.device):
            output = self._together(batch.inputs)
        loss, terms = self._loss(output, batch)
        if not torch.isfinite(loss):
            raise TrainingFailed(f"the loss became {loss.item()}; lower training.learning_rate")
        (loss / self._training.accumulation_steps).backward()
        self.accumulated += 1
        if self.accumulated == self._training.accumulation_steps:
            self._update(learning_rate_factor)
        return float(loss.detach()), {name: float(t.detach()) for name, t in terms.items()}

    def _update(self, learning_rate_factor: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._training.learning_rate * learning_rate_factor
        nn.utils.clip_grad_norm_(self._model.parameters(), self._training.gradient_clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._average.update_parameters(self._model)
        self.accumulated = 0

    @property
    def has_learned(self) -> bool:
        """Whether the weights were updated, in this process or before it took the run up."""
        return int(self._average.n_averaged) > 1

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by dotted name."""
        moments = {
            f"{parameter}.{name}": value
            for parameter, values in self._optimiser.state_dict()["state"].items()
            for name, value in values.items()
        }
        parts = {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "moments": moments,
        }
        return {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}

    def restore(self, saved: SavedRun) -> None:
        """Go on from what `tensors` gave."""
        self._model.load_state_dict(saved.part("model"))
        self._average.load_state_dict(saved.part("average"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in saved.part("moments").items():
            parameter, moment = name.split(".")
            moments.setdefault(int(parameter), {})[moment] = value
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})

    def averaged(self) -> SparsePixelTransformer:
        """The model as it would be kept now."""
        return cast(SparsePixelTransformer, self._average.module)

    def finish(self) -> None:
        """Put the averaged weights in the model."""
        self._model.load_state_dict(self.averaged().state_dict())


class RunMemory:
    """Keeps a run on disk while it goes on, so that it can be taken up after being cut off."""

    def __init__(
        self, path: Path, *, header: RunHeader, taken_up: SavedRun | None, writes: bool
    ) -> None:
        """`header` tells how the run began, `taken_up` how far it had come when it was cut off."""
        self._path = path
        self._header = header
        self._taken_up = taken_up
        self._writes = writes
        self.is_kept = writes and taken_up is not None
        """Whether the run can be taken up now."""

    def recall(self, stepper: _Stepper) -> tuple[int, float]:
        """The step and the seconds at which the run goes on."""
        if self._taken_up is None:
            return 0, 0.0
        stepper.restore(self._taken_up)
        return self._taken_up.header.step, self._taken_up.header.elapsed_secs

    def keep(self, stepper: _Stepper, step: int, elapsed_secs: float) -> None:
        """Where it cannot be written, what was kept before stays, and the run goes on."""
        if not self._writes:
            return
        now = {"step": step - stepper.accumulated, "elapsed_secs": elapsed_secs}
        header = self._header.model_copy(update=now)
        try:
            save_run(self._path, SavedRun(header=header, tensors=stepper.tensors()))
        except OSError as error:
            log.warning("step %d is not saved, the run goes on: %s", step, error)
        else:
            self.is_kept = True

    def forget(self) -> None:
        """The run is over. A file that stays costs no more than room."""
        if not self._writes:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the saved run stays: %s", error)
