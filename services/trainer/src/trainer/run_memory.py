"""What a run leaves on disk while it goes on, for another one to take up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.saved_run import RunHeader, SavedRun, save_run
from trainer.stepper import Stepper, TrainingFailed

log = logging.getLogger(__name__)


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

    def recall(self, stepper: Stepper) -> tuple[int, float]:
        """The step and the seconds at which the run goes on."""
        if self._taken_up is None:
            return 0, 0.0
        stepper.restore(self._taken_up)
        return self._taken_up.header.step, self._taken_up.header.elapsed_secs

    def keep(self, stepper: Stepper, step: int, elapsed_secs: float) -> None:
        """Where it cannot be written, what was kept before stays, and the run goes on.

        Nothing before the first update of the weights: there is nothing to take up.
        """
        saved_step = step - stepper.accumulated
        if not (self._writes and saved_step):
            return
        now = {"step": saved_step, "elapsed_secs": elapsed_secs}
        header = self._header.model_copy(update=now)
        try:
            save_run(self._path, SavedRun(header=header, tensors=stepper.tensors()))
        except OSError as error:
            log.warning("step %d is not saved, the run goes on: %s", step, error)
        else:
            self.is_kept = True

    @contextmanager
    def unless_it_fails(self) -> Iterator[None]:
        """A run that was taken up after TrainingFailed would fail as it did, and by other settings
        it cannot be taken up."""
        try:
            yield
        except TrainingFailed:
            self.forget()
            raise

    def forget(self) -> None:
        """The run is over. A file that stays costs no more than room."""
        if not self._writes:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the saved run stays: %s", error)
