"""What a training run does when: its learning rate, its sample counts, and how far it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgaps.settings import Settings, TrainingSettings


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
class Schedule:
    """Linear warm-up, then a cosine to zero, over steps or seconds, whichever ends first."""

    warmup_part: float
    """Of the run."""
    total_steps: int
    max_secs: float

    @classmethod
    def of(cls, training: TrainingSettings, *, epoch_steps: int) -> Schedule:
        return cls(
            warmup_part=min(training.warmup_epochs / training.max_epochs, 0.5),
            total_steps=training.max_epochs * epoch_steps,
            max_secs=training.max_secs,
        )

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
        rest = (part - self.warmup_part) / (1 - self.warmup_part)
        return 0.5 * (1 + math.cos(math.pi * rest))


def sample_counts(settings: Settings, part: float) -> tuple[int, ...]:
    """Counts to choose from for a batch, when so much of a run is done (0..1)."""
    phases = settings.training.curriculum
    if not phases:
        return (settings.sampling.default_sample_count,)
    ends = np.cumsum([phase.epochs for phase in phases])
    which = int(np.searchsorted(ends, part * ends[-1], side="right"))
    return phases[min(which, len(phases) - 1)].samples


class Every:
    """What comes again and again while a run goes on."""

    def __init__(self, secs: float, from_secs: float) -> None:
        self._secs = secs
        self._last_secs = from_secs

    def at(self, elapsed_secs: float) -> bool:
        """Whether it is due; if so, not again before so many seconds have passed."""
        is_due = elapsed_secs - self._last_secs > self._secs
        if is_due:
            self._last_secs = elapsed_secs
        return is_due
