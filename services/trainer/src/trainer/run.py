"""One training run of one key: champion against challenger on the same held-out sessions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sgaps import checkpoints
from sgaps.atlas.atlas import Atlas
from sgaps.errors import CheckpointError, SgapsError
from sgaps.manifest import DataCard, Manifest
from sgaps.model import (
    CheckpointStore,
    SparsePixelTransformer,
    pick_device,
    prepare_cpu,
)
from sgaps.recording import SegmentInfo, being_read, note_trained
from sgaps.settings import DataSettings, Settings
from trainer.atlas import build_atlas
from trainer.attempts import attempt
from trainer.augment import AugmentationPipeline
from trainer.cards import data_card, training_card
from trainer.champion import Champion, begun_from, champion_of
from trainer.contest import Challenger, Contest
from trainer.dataset import ExampleOptions, RecordingDataset
from trainer.fit import FitReport, fit
from trainer.ranks import ALONE, Ranks
from trainer.reporter import Reporter
from trainer.run_lock import alone_with
from trainer.run_log import RunLog
from trainer.run_memory import RunMemory
from trainer.saved_run import (
    RunHeader,
    SavedRun,
    load_run,
    refuse_to_replace,
    settings_of,
)
from trainer.schedule import Progress
from trainer.segments import close_segments
from trainer.split import Split, split_for
from trainer.trust import taught
from trainer.validation import HeldOut

log = logging.getLogger(__name__)

UNFINISHED_NAME = "unfinished.safetensors"


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What came of a run."""

    champion_version: str
    champion: HeldOut
    challenger: HeldOut
    atlas_gain_db: float
    """Of its PSNR, by what is known of the level by heart; 0 where that is nothing."""
    fit: FitReport
    published: Manifest | None
    """None where the challenger was not better by training.min_gain_db, or nothing is finished."""
    finished: bool
    """Whether it came to its end before it was told to stop."""
    resumable: bool
    """Whether it can be taken up where it is not finished."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run by hand may have beyond one that the trainer starts by itself."""

    val: tuple[SegmentInfo, ...] = ()
    """The held-out segments; without it a share of the sessions is held out."""
    ranks: Ranks = ALONE
    """Of several, the first one publishes."""
    resumable: bool = False
    """Whether it can be taken up after being cut off."""
    resume: bool = False
    """Whether it takes up one that was cut off."""
    log: RunLog | None = None


def train_key(
    checkpoint_key: str,
    segments: Sequence[SegmentInfo],
    settings: Settings,
    *,
    stop: threading.Event,
    report: Callable[[Progress], None],
    options: RunOptions = RunOptions(),
) -> RunReport:
    """Delete old versions, train from the champion's weights, validate both, publish if better.

    What a run has had to its end is noted as trained. Raises SgapsError: BeingTrained,
    TrainingFailed, LoaderKilled, PerceptualUnavailable, CannotResume, WouldBeLost and others.
    """
    data, is_first = settings.data, options.ranks.is_first
    with ExitStack() as held:
        if is_first:
            held.enter_context(alone_with(checkpoint_key, data.checkpoints_dir))
            _prune(checkpoint_key, settings)
        for key in {segment.checkpoint_key for segment in (*segments, *options.val)}:
            held.enter_context(being_read(data.recordings_dir, key))
        held.callback(close_segments)
        held.callback(torch.cuda.empty_cache)  # a reconstructor may share the GPU
        # Retention may have been quicker; from here on nothing goes.
        segments, val = _there(segments), _there(options.val)
        if is_first:
            held.enter_context(attempt(checkpoint_key, segments, data, stop=stop))
        outcome = _train(
            checkpoint_key,
            segments,
            settings,
            stop=stop,
            report=report,
            options=replace(options, val=val),
        )
        if outcome.finished and is_first:
            _note_trained(checkpoint_key, [*segments, *val], data)
    return outcome


def _there(segments: Sequence[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    return tuple(segment for segment in segments if segment.path.exists())


def _prune(checkpoint_key: str, settings: Settings) -> None:
    """Before a run, which then has room to publish what comes of it."""
    keep, store = settings.training.keep_versions, CheckpointStore(settings.data.checkpoints_dir)
    try:
        if keep is None or store.current_version(checkpoint_key) is None:
            return
        old = store.prune(checkpoint_key, keep)
    except SgapsError:
        log.exception(
            "old versions of %s are still there; the next run tries again", checkpoint_key
        )
    else:
        if old:
            log.info("deleted %s of %s: training.keep_versions", ", ".join(old), checkpoint_key)


def _note_trained(checkpoint_key: str, segments: Sequence[SegmentInfo], data: DataSettings) -> None:
    try:
        note_trained(checkpoint_key, data.checkpoints_dir, segments, root=data.recordings_dir)
    except SgapsError:
        # They are trained once more, and stay until then; what was published stands.
        log.exception("the segments of this run count as new")


def _train(
    checkpoint_key: str,
    segments: Sequence[SegmentInfo],
    settings: Settings,
    *,
    stop: threading.Event,
    report: Callable[[Progress], None],
    options: RunOptions,
) -> RunReport:
    prepare_cpu(settings.training.cpu_threads)
    store = CheckpointStore(settings.data.checkpoints_dir)
    champion = champion_of(checkpoint_key, settings)
    saved_at = store.key_dir(checkpoint_key) / UNFINISHED_NAME
    taken_up = _taken_up(saved_at, champion, store.versions(checkpoint_key), settings, options)
    begun = begun_from(checkpoint_key, champion, settings)
    had = frozenset(taken_up.header.train_sessions if taken_up else ())
    known = champion.trained_on | begun.trained_on | had
    split = split_for(
        segments,
        val=options.val,
        val_share=settings.training.val_share,
        known=known,
        champion_version=champion.version,
        held_out_before=taken_up.header.val_sessions if taken_up else None,
        saved_at=saved_at,
    )
    contest = Contest(champion, split, settings, stop)
    model = begun.model.to(pick_device(settings.training.device))
    held_out = RecordingDataset(split.val, ExampleOptions.of(settings))
    header = RunHeader(
        champion_version=champion.version,
        model=settings.model,
        val_sessions=split.val_sessions,
        train_sessions=tuple(sorted(had.union(split.train_sessions))),
        learned_by=settings_of(settings),
    )
    writes = options.resumable and options.ranks.is_first
    memory = RunMemory(saved_at, header=header, taken_up=taken_up, writes=writes)
    reporter = Reporter(options.log, held_out, settings, report)
    reporter.look(0, model)
    drawn_anew = _reseeded(settings, begun)
    with memory.unless_it_fails():
        outcome = _fitted(
            model, split, drawn_anew, reporter, memory, stop=stop, ranks=options.ranks
        )
        atlas = None
        if options.ranks.is_first:
            atlas = _atlas(checkpoint_key, split, champion, model, settings, stop)
        challenger = contest.judged(model, atlas, held_out)
    # Whoever is told to stop meanwhile has not finished, and the others of several do not publish.
    is_won = (
        not stop.is_set()
        and options.ranks.is_first
        and contest.is_won_by(challenger, checkpoint_key)
    )
    finished, published = not stop.is_set(), None
    if finished and is_won:
        # An atlas has pictures of the one before it.
        inherited = begun.trained_on | had | (champion.trained_on if challenger.atlas else set())
        data = data_card(split, inherited)
        published = _published(checkpoint_key, model, contest, challenger, data, settings, memory)
    if finished:
        memory.forget()  # not before it is published: that may fail
        reporter.end(outcome.steps, model)
    return RunReport(
        champion_version=contest.version,
        champion=contest.held_out,
        challenger=challenger.held_out,
        atlas_gain_db=challenger.atlas_gain_db,
        fit=outcome,
        published=published,
        finished=finished,
        resumable=memory.is_kept,
    )


def _fitted(
    model: SparsePixelTransformer,
    split: Split,
    settings: Settings,
    reporter: Reporter,
    memory: RunMemory,
    *,
    stop: threading.Event,
    ranks: Ranks,
) -> FitReport:
    augmentation = AugmentationPipeline(settings.augmentation, sentinel=settings.sentinel_value)
    return fit(
        model,
        RecordingDataset(split.train, ExampleOptions.of(settings, augmentation)),
        settings,
        stop=stop,
        report=reporter.step,
        ranks=ranks,
        memory=memory,
        look=reporter.look,
    )


def _published(
    checkpoint_key: str,
    model: SparsePixelTransformer,
    contest: Contest,
    challenger: Challenger,
    data: DataCard,
    settings: Settings,
    memory: RunMemory,
) -> Manifest:
    """The challenger, as what serves the key from now on. Raises CheckpointError."""
    try:
        return CheckpointStore(settings.data.checkpoints_dir).publish(
            checkpoint_key,
            model,
            settings=settings.model,
            metrics=contest.metrics(challenger),
            parent=contest.parent,
            data=data,
            training=training_card(settings),
            atlas=challenger.atlas,
        )
    except CheckpointError as error:
        if not memory.is_kept:
            raise
        raise CheckpointError(
            f"{error}; mend that, and the same command with --resume publishes what was trained"
        ) from error


def _taken_up(
    saved_at: Path,
    champion: Champion,
    versions: Sequence[str],
    settings: Settings,
    options: RunOptions,
) -> SavedRun | None:
    """The run to go on with, if it is to be gone on with. Raises CannotResume, WouldBeLost."""
    if options.resume:
        return load_run(
            saved_at, champion_version=champion.version, settings=settings, versions=versions
        )
    if options.resumable:  # else it saves nothing, and what is there stays
        refuse_to_replace(saved_at)
    return None


def _reseeded(settings: Settings, begun: Champion) -> Settings:
    """A run that goes on from another draws otherwise than that one did."""
    seed = settings.training.seed + checkpoints.version_number(begun.version)
    return settings.model_copy(
        update={"training": settings.training.model_copy(update={"seed": seed})}
    )


def _atlas(
    checkpoint_key: str,
    split: Split,
    champion: Champion,
    model: SparsePixelTransformer,
    settings: Settings,
    stop: threading.Event,
) -> Atlas | None:
    """Of what is trained on, and of what the champion knows: that alone, where it cannot be built.

    A training is not lost with it.
    """
    atlas = _known_atlas(checkpoint_key, champion, settings)
    try:
        atlas = build_atlas(checkpoint_key, split.train, settings, known=atlas, stop=stop)
        if atlas:
            examples = RecordingDataset(split.train, ExampleOptions.of(settings))
            return taught(atlas, model, examples, settings, stop=stop)
    except SgapsError:
        log.exception("%s goes with %s", checkpoint_key, "an untaught atlas" if atlas else "none")
    return atlas


def _known_atlas(checkpoint_key: str, champion: Champion, settings: Settings) -> Atlas | None:
    """The champion's, as far as it is still wanted."""
    known, layout = champion.atlas, settings.atlas.layout_of(checkpoint_key)
    if known is None or known.layout != layout or not settings.atlas.max_pictures:
        return None
    return known
