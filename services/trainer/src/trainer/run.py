"""One training run of one key: champion against challenger on the same held-out sessions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sgaps import checkpoints
from sgaps.checkpoints import Manifest
from sgaps.errors import CheckpointError
from sgaps.model import (
    CheckpointStore,
    SparsePixelTransformer,
    build_model,
    load_serving,
    pick_device,
    prepare_cpu,
)
from sgaps.recording import SegmentInfo
from sgaps.settings import Settings
from trainer.augment import AugmentationPipeline
from trainer.dataset import ExampleOptions, RecordingDataset
from trainer.fit import FitReport, Progress, fit
from trainer.split import Split, split_by_session
from trainer.validation import validate

log = logging.getLogger(__name__)

MAX_VAL_EXAMPLES = 40


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What came of a run."""

    champion_version: str
    champion_psnr_db: float
    challenger_psnr_db: float
    fit: FitReport
    published: Manifest | None
    """None where the challenger was not better by training.min_gain_db."""


def enough_to_train(
    segments: Sequence[SegmentInfo], *, trained_frames: int, settings: Settings
) -> bool:
    """Whether a key has enough new frames, and sessions to hold one out."""
    frames = sum(segment.frame_count for segment in segments)
    sessions = {segment.session_id for segment in segments}
    training = settings.training
    return (
        frames - trained_frames >= training.min_new_frames
        and len(sessions) >= training.min_sessions
    )


def train_key(
    checkpoint_key: str,
    segments: Sequence[SegmentInfo],
    settings: Settings,
    *,
    stop: threading.Event,
    report: Callable[[Progress], None],
    val: Sequence[SegmentInfo] = (),
) -> RunReport:
    """Train from the champion's weights, validate both, publish if better.

    `val` names the held-out segments; without it a share of the sessions is held out.
    Raises TrainingFailed, PerceptualUnavailable, CheckpointError, RecordingError.
    """
    prepare_cpu(settings.training.cpu_threads)
    split = (
        Split(train=tuple(segments), val=tuple(val))
        if val
        else split_by_session(segments, val_share=settings.training.val_share)
    )
    store = CheckpointStore(settings.data.checkpoints_dir)
    model, champion_version = _champion(checkpoint_key, settings)
    model.to(pick_device(settings.training.device))
    held_out = RecordingDataset(split.val, _options(settings))
    champion_psnr_db = _validate(model, held_out, settings)
    augmentation = AugmentationPipeline(settings.augmentation, sentinel=settings.sentinel_value)
    dataset = RecordingDataset(split.train, _options(settings, augmentation))
    outcome = fit(model, dataset, settings, stop=stop, report=report)
    challenger_psnr_db = _validate(model, held_out, settings)
    better = challenger_psnr_db >= champion_psnr_db + settings.training.min_gain_db
    published = None
    if better and not stop.is_set():
        published = store.publish(
            checkpoint_key,
            model,
            settings=settings.model,
            metrics=checkpoints.Metrics(
                val_psnr_db=challenger_psnr_db, champion_psnr_db=champion_psnr_db
            ),
            parent=None if champion_version == checkpoints.UNTRAINED else champion_version,
            data=_data(split),
            training=settings.training.model_dump(mode="json")
            | {"augmentation": settings.augmentation.model_dump(mode="json")},
        )
    return RunReport(
        champion_version=champion_version,
        champion_psnr_db=champion_psnr_db,
        challenger_psnr_db=challenger_psnr_db,
        fit=outcome,
        published=published,
    )


def _champion(checkpoint_key: str, settings: Settings) -> tuple[SparsePixelTransformer, str]:
    """The model that serves the key now; the untrained prior where there is none to be used."""
    try:
        model, manifest = load_serving(settings.data, checkpoint_key)
    except CheckpointError as error:
        log.info("%s starts from the prior: %s", checkpoint_key, error)
        torch.manual_seed(settings.training.seed)
        return build_model(settings.model), checkpoints.UNTRAINED
    if manifest.model == settings.model:
        return model, manifest.model_version
    log.info("%s starts afresh: the model settings changed", checkpoint_key)
    return build_model(settings.model), checkpoints.UNTRAINED


def _options(
    settings: Settings, augmentation: AugmentationPipeline | None = None
) -> ExampleOptions:
    return ExampleOptions(
        history_frames=settings.model.history_frames,
        sampling=settings.sampling,
        seed=settings.training.seed,
        augmentation=augmentation,
    )


def _validate(
    model: SparsePixelTransformer, dataset: RecordingDataset, settings: Settings
) -> float:
    return validate(model, dataset, settings, max_examples=MAX_VAL_EXAMPLES)


def _data(split: Split) -> checkpoints.DataCard:
    everything = [*split.train, *split.val]
    return checkpoints.DataCard(
        frames=sum(segment.frame_count for segment in everything),
        train_sessions=tuple(sorted({segment.session_id for segment in split.train})),
        val_sessions=tuple(sorted({segment.session_id for segment in split.val})),
    )
