"""Champion against challenger, on the same held-out sessions."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from functools import partial

from sgaps import checkpoints
from sgaps.atlas.atlas import Atlas
from sgaps.manifest import Metrics
from sgaps.model import SparsePixelTransformer, pick_device
from sgaps.settings import Settings
from trainer.champion import Champion, champion_of
from trainer.dataset import ExampleOptions, RecordingDataset
from trainer.split import Split
from trainer.stepper import TrainingFailed
from trainer.validation import HeldOut, validate

log = logging.getLogger(__name__)

MAX_VAL_EXAMPLES = 40


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """How good a trained model is, with its atlas where that helps."""

    held_out: HeldOut
    atlas: Atlas | None
    atlas_gain_db: float


class Contest:
    """What serves a key, and whether a challenger is better by training.min_gain_db."""

    def __init__(
        self, champion: Champion, split: Split, settings: Settings, stop: threading.Event
    ) -> None:
        """Validates the champion, and nothing to its end once it is told to stop."""
        self._split, self._settings, self._stop = split, settings, stop
        self.version = champion.version
        self.held_out = _champion_held_out(champion, split, settings, stop)

    @property
    def parent(self) -> str | None:
        """What a manifest names as the version before."""
        return None if self.version == checkpoints.UNTRAINED else self.version

    def judged(
        self, model: SparsePixelTransformer, atlas: Atlas | None, held_out: RecordingDataset
    ) -> Challenger:
        """`held_out` are the same sessions, with the history that the challenger asks for.

        Raises TrainingFailed where it rebuilds nothing: what the last update did no step has seen.
        """
        alone = _validate(model, held_out, self._settings, self._stop)
        if not math.isfinite(alone.score_db):
            raise TrainingFailed(
                f"held-out PSNR became {alone.psnr_db} dB; lower training.learning_rate"
            )
        if atlas:
            both = _validate(model, held_out, self._settings, self._stop, atlas)
            if both.score_db > alone.score_db:
                gain_db = both.psnr_db - alone.psnr_db
                return Challenger(held_out=both, atlas=atlas, atlas_gain_db=gain_db)
        return Challenger(held_out=alone, atlas=None, atlas_gain_db=0)

    def is_won_by(self, challenger: Challenger, checkpoint_key: str) -> bool:
        """Also against what serves by now: a run may take hours, and somebody may have rolled back
        what it began with."""
        if not self._is_beaten_by(challenger):
            return False
        serving = champion_of(checkpoint_key, self._settings)
        if serving.version != self.version:
            log.warning("%s serves in place of %s by now", serving.version, self.version)
            self.version = serving.version
            self.held_out = _champion_held_out(serving, self._split, self._settings, self._stop)
        return self._is_beaten_by(challenger)

    def _is_beaten_by(self, challenger: Challenger) -> bool:
        gain_db = challenger.held_out.score_db - self.held_out.score_db
        return gain_db > 0 and gain_db >= self._settings.training.min_gain_db

    def metrics(self, challenger: Challenger) -> Metrics:
        """Of both, for the challenger's manifest."""
        ours, theirs = challenger.held_out, self.held_out
        psnrs_db = {"val_psnr_db": ours.psnr_db, "champion_psnr_db": theirs.psnr_db}
        if ours.score_db == ours.psnr_db:
            return Metrics(**psnrs_db)
        return Metrics(**psnrs_db, val_score_db=ours.score_db, champion_score_db=theirs.score_db)


def _champion_held_out(
    champion: Champion, split: Split, settings: Settings, stop: threading.Event
) -> HeldOut:
    """With the history that its own shape asks for."""
    own = settings.model_copy(update={"model": champion.settings})
    champion.model.to(pick_device(settings.training.device))
    held_out = RecordingDataset(split.val, ExampleOptions.of(own))
    return _validate(champion.model, held_out, own, stop, champion.atlas)


def _validate(
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    stop: threading.Event,
    atlas: Atlas | None = None,
) -> HeldOut:
    """As many of the frames count without their state as are learned without."""
    score = partial(
        validate, model, dataset, settings, max_examples=MAX_VAL_EXAMPLES, stop=stop, atlas=atlas
    )
    absent = settings.augmentation.state_absent_share
    if not absent:
        return score()
    return score().mixed(score(states=False), absent)
