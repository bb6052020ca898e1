"""What one step of a training run does, and the moving average that is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sgaps.errors import SgapsError
from sgaps.model import SparsePixelTransformer, network_precision
from sgaps.settings import Settings
from trainer.batch import Batch
from trainer.losses import ReconstructionLoss
from trainer.saved_run import SavedRun

log = logging.getLogger(__name__)

MOST_SKIPPED = 3
"""Updates in a row whose gradient is not finite. One may overflow in bfloat16; so many are a model
that is ruined."""
Params: TypeAlias = tuple[Tensor, ...] | list[Tensor]
Averaging: TypeAlias = Callable[[Params, Params, Tensor | int], None]


class TrainingFailed(SgapsError):
    """A gradient or what was learned is not finite, or nothing was learned; nothing of the run is
    kept."""


def moving_average(decay: float) -> Averaging:
    """Exponential, of the weights; it reaches back no farther than the run is old (Abadi 2015).

    Else what is published of a short run would be mostly what it began with.
    """

    def average(averaged: Params, current: Params, updates: Tensor | int) -> None:
        count = int(updates)
        share = min(decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(share)(averaged, current, updates)  # type: ignore[no-untyped-call]

    return average


class Stepper:
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
        self._skipped = 0
        """Updates left out since the last one."""

    def step(self, batch: Batch, learning_rate_factor: float) -> tuple[float, dict[str, float]]:
        """Forward, backward, and every accumulation_steps an update; the loss and its terms.

        Raises TrainingFailed.
        """
        with network_precision(self.device):
            output = self._together(batch.inputs)
        loss, terms = self._loss(output, batch)
        (loss / self._training.accumulation_steps).backward()
        self.accumulated += 1
        if self.accumulated == self._training.accumulation_steps:
            self._update(learning_rate_factor)
        return float(loss.detach()), {name: float(t.detach()) for name, t in terms.items()}

    def _update(self, learning_rate_factor: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._training.learning_rate * learning_rate_factor
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._training.gradient_clip)
        # The gradient, unlike the loss, is the same on all ranks: all of them go on, or fail.
        if torch.isfinite(norm):
            self._optimiser.step()
            self._average.update_parameters(self._model)
            self._skipped = 0
        else:
            self._skip(float(norm))
        self._optimiser.zero_grad(set_to_none=True)
        self.accumulated = 0

    def _skip(self, norm: float) -> None:
        """Leave an update out, as it would make every weight NaN. Raises TrainingFailed."""
        self._skipped += 1
        if self._skipped == MOST_SKIPPED:
            raise TrainingFailed(f"the gradient became {norm}; lower training.learning_rate")
        log.warning("an update is left out: its gradient is %s", norm)

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
