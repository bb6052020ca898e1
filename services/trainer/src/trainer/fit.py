"""The training loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from sgaps.model import SparsePixelTransformer
from sgaps.settings import Settings
from trainer.batch import make_batch
from trainer.dataset import RecordingDataset
from trainer.loader import BatchPlan, load, most_pixels_of_a_batch, steps_per_epoch
from trainer.ranks import ALONE, Ranks
from trainer.run_memory import RunMemory
from trainer.schedule import Every, Progress, Schedule, sample_counts
from trainer.stepper import Stepper, TrainingFailed


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """How a run went."""

    steps: int
    secs: float


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

    Raises TrainingFailed, LoaderKilled, and PerceptualUnavailable where loss.perceptual lacks its
    weights.

    What stays in the model is the moving average of its weights (training.ema_decay). With a
    memory the run begins where it ended the last time, if it was cut off. Now and then `look`
    is shown the step and the averaged model.
    """
    training = settings.training
    # Without whole frames there is nothing to teach the error head.
    together = ranks.together(model, trains_all=dataset.has_keyframes)
    stepper = Stepper(model, together, settings)
    step, before_secs = memory.recall(stepper) if memory else (0, 0.0)
    started_at_secs = time.monotonic() - before_secs
    save_due = Every(training.save_every_secs, before_secs)
    look_due = Every(settings.logging.look_every_secs, before_secs)
    most_pixels = most_pixels_of_a_batch(training, ranks)
    epoch_steps = steps_per_epoch(dataset, training, ranks, most_pixels=most_pixels)
    schedule = Schedule.of(training, epoch_steps=epoch_steps)

    def counts(ahead: int) -> tuple[int, ...]:
        return sample_counts(settings, schedule.part(ahead, time.monotonic() - started_at_secs))

    plan = BatchPlan(
        dataset, settings, ranks=ranks, most_pixels=most_pixels, first_step=step, counts=counts
    )
    model.train()
    with closing(load(dataset, plan, workers=training.workers)) as batches:
        for examples in batches:
            own_secs = time.monotonic() - started_at_secs
            elapsed_secs, is_stopped = ranks.in_step(own_secs, stop=stop.is_set())
            if is_stopped or schedule.done(step, elapsed_secs):
                break
            factor = schedule.factor(step, elapsed_secs)
            torch.manual_seed(_seed_of(training.seed, step))
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
            if memory and save_due.at(elapsed_secs):
                memory.keep(stepper, step, elapsed_secs)
            if look and look_due.at(elapsed_secs):
                look(step, stepper.averaged())
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


def _seed_of(seed: int, step: int) -> int:
    """What a step draws is the same on all ranks, and wherever the run was taken up."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
