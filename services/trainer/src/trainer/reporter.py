"""What a run tells while it goes on: its progress and, where there is one, its log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sgaps.model import SparsePixelTransformer
from sgaps.settings import Settings
from trainer.dataset import RecordingDataset
from trainer.run_log import RunLog
from trainer.schedule import Progress
from trainer.snapshot import efficiency, look

log = logging.getLogger(__name__)

EFFICIENCY_COUNTS = (125, 250, 500, 1000)


class Reporter:
    """Looks at the model for the log, where there is one. A log that fails costs no run."""

    def __init__(
        self,
        run_log: RunLog | None,
        held_out: RecordingDataset,
        settings: Settings,
        report: Callable[[Progress], None],
    ) -> None:
        self._log = run_log
        self._held_out = held_out
        self._settings = settings
        self._report = report
        self._told = False

    def step(self, progress: Progress) -> None:
        self._report(progress)
        self._note(lambda run_log: run_log.step(progress))

    def look(self, step: int, model: SparsePixelTransformer) -> None:
        self._note(lambda run_log: run_log.look(step, look(model, self._held_out, self._settings)))

    def end(self, step: int, model: SparsePixelTransformer) -> None:
        self.look(step, model)
        self._note(
            lambda run_log: run_log.efficiency(
                step, efficiency(model, self._held_out, self._settings, EFFICIENCY_COUNTS)
            )
        )

    def _note(self, write: Callable[[RunLog], None]) -> None:
        if self._log is None:
            return
        try:
            write(self._log)
        except Exception:  # a full disk, no memory for pictures, W&B: none is worth hours of a GPU
            if not self._told:
                log.warning("the log of this run has gaps; the run goes on", exc_info=True)
            self._told = True
