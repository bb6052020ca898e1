"""A checkpoint beside everything else one could do with the same samples of the same frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product

import numpy as np
from tqdm import tqdm

from sgaps.atlas.atlas import Atlas
from sgaps.checkpoints import UNTRAINED
from sgaps.errors import CheckpointNotFound
from sgaps.manifest import Manifest
from sgaps.model import (
    SparsePixelTransformer,
    build_model,
    load_serving,
    pick_device,
    predicted_psnr_db,
)
from sgaps.model.inpaint import inpainted
from sgaps.settings import Settings
from sgaps.whole_frames import picture_psnr_db
from trainer.baselines import dct_oracle, linear, x264
from trainer.champion import sessions_of
from trainer.closed_loop import Frames, Loop, Shown, Traffic, importance_of, play, traffic
from trainer.measured_frames import frames_to_measure, possible_counts
from trainer.medians import medians_of_others
from trainer.perceptual import SMALLEST_SIDE_PX, PerceptualScore, PerceptualUnavailable
from trainer.pictures import Picture, strip
from trainer.scores import (
    Mean,
    Row,
    Scores,
    gain_db,
    mean_over,
    rank_correlation,
)

log = logging.getLogger(__name__)

POINTS_ALONE = Loop(guide="nothing", footprints=False, pattern="jittered_grid", history=False)
SQUARES_ALONE = Loop(guide="nothing", history=False)
CLOSED_LOOPS = (
    Loop(guide="nothing", footprints=False, pattern="random"),
    Loop(guide="nothing", footprints=False, pattern="jittered_grid"),
    Loop(guide="predicted_error", footprints=False),
    Loop(guide="nothing"),
    Loop(guide="attention_entropy"),
    Loop(guide="predicted_error"),
)
EVEN, ENTROPY, ERROR = CLOSED_LOOPS[3:]
WRONG_STATE, NO_STATE = replace(ERROR, state="wrong"), replace(ERROR, state="no")
NO_ATLAS = replace(ERROR, atlas=False)
PICTURED_FRAMES = 4
PERCEPTUAL_INTERVAL = 15
"""ST-LPIPS is measured on every so many frames of a session, counted back from its last.

On all of them it would take longer than everything else together.
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a comparison."""

    key: str
    model_version: str
    rows: tuple[Row, ...]
    gains_db: dict[str, Mean]
    """Paired by session."""
    rank_correlations: dict[str, Mean]
    """Spearman's, of importance and the true error of the next frame."""
    told_psnr_db: dict[str, Mean]
    """Of the closed loop by predicted error, as `sgaps up` serves: how far the PSNR that
    a client is told is from the true one.

    Empty where the model is untrained, and a client told nothing.
    """


def compare(
    key: str, settings: Settings, *, frames: int, counts: Sequence[int] = ()
) -> tuple[Report, list[Picture]]:
    """The report, and a strip of pictures for some of the frames. Raises SgapsError."""
    model, manifest, atlas = _checkpoint(key, settings)
    device = pick_device(settings.training.device)
    version = manifest.model_version if manifest else UNTRAINED
    if manifest is not None:  # it is served in its own shape, whatever is configured
        settings = settings.model_copy(update={"model": manifest.model})
    trained_on = sessions_of(manifest, settings.data) if manifest else frozenset()
    sessions = frames_to_measure(key, settings, trained_on, count=frames)
    if manifest and (chosen_by := sorted(sessions.keys() & set(manifest.data.val_sessions))):
        log.warning("%s was chosen by how good it is on %s", version, ", ".join(chosen_by))
    counts = possible_counts(counts or (settings.sampling.default_sample_count,), sessions.values())
    prior = build_model(settings.model).eval().to(device)
    table = _Table(settings, model.to(device), version, atlas, prior=prior)
    bar = tqdm(desc=f"evaluate {key}", total=len(sessions) * len(counts), unit="session")
    medians = medians_of_others(sessions)
    for session_id, played in sessions.items():
        table.play_without_samples(session_id, played, medians[session_id])
        for count in counts:
            table.play(session_id, played, count)
            bar.update()
    bar.close()
    return table.report(key), table.pictures


class _Table:
    """All rows, filled session by session."""

    def __init__(
        self,
        settings: Settings,
        model: SparsePixelTransformer,
        version: str,
        atlas: Atlas | None,
        *,
        prior: SparsePixelTransformer,
    ) -> None:
        self._settings = settings
        self._model = model
        self._version = version
        self._atlas = atlas
        self._other_loops = (WRONG_STATE, NO_STATE, *((NO_ATLAS,) if atlas else ()))
        self._prior = prior
        self._scores: dict[tuple[str, int], Scores] = {}
        self._ranks: dict[str, list[float]] = {}
        self._told: dict[str, list[float]] = {}
        self._perceptual = _perceptual_score()
        self.pictures: list[Picture] = []

    def _score(
        self,
        session_id: str,
        played: Frames,
        name: str,
        rebuilt: Iterable[Picture],
        samples: int,
        sent: Sequence[Traffic] = (),
    ) -> None:
        """The first frame has none before it, so it does not count, nor do its bytes."""
        row = self._scores.setdefault((name, samples), Scores(name, samples=samples))
        for of_frame in sent[1:]:
            row.add_bytes(*of_frame)
        looked_at = range(len(played) - 1, 0, -PERCEPTUAL_INTERVAL)
        for index, (frame, (truth, _)) in enumerate(zip(rebuilt, played, strict=True)):
            if index:
                row.add(session_id, frame, truth)
            if self._perceptual and index in looked_at and min(truth.shape) >= SMALLEST_SIDE_PX:
                row.add_st_lpips(session_id, self._perceptual.distance(frame, truth))

    def play_without_samples(self, session_id: str, played: Frames, median: Picture | None) -> None:
        """What one has without any sample of the frame."""
        truths = [truth for truth, _ in played]
        if median is not None:
            name = "median of other sessions"
            self._score(session_id, played, name, (median for _ in truths), 0)
        self._score(session_id, played, "true frame before", [truths[0], *truths[:-1]], 0)

    def play(self, session_id: str, played: Frames, count: int) -> None:
        """Every method that has so many samples, on one session."""
        score = partial(self._score, session_id, played)
        truths = [truth for truth, _ in played]
        score("DCT oracle", (dct_oracle(truth, count) for truth in truths), count)
        shown_by = partial(self._played, session_id, played)
        points = shown_by(POINTS_ALONE, count, model=self._prior)
        squares = shown_by(SQUARES_ALONE, count, model=self._prior)
        sent = self._sent(squares, SQUARES_ALONE)
        # Header, state and values: as many by every loop that tells its state.
        coded, sizes_bytes = x264(truths, float(np.mean([up for up, _ in sent[1:]])))
        packets = [Traffic(up=size, down=0) for size in sizes_bytes]
        score("x264, as many bytes", coded, count, packets)
        telea = partial(
            inpainted,
            method="telea",
            radius_px=self._settings.reconstructor.inpaint_radius_px,
        )
        classical: dict[str, Callable[[Shown], Picture]] = {
            "linear, points": lambda s: linear(s.samples, *s.size),
            "Telea, points": lambda s: telea(s.samples, *s.size),
            "pull-push, points": lambda s: s.frame,
        }
        for name, method in classical.items():
            score(name, map(method, points), count, self._sent(points, POINTS_ALONE))
        score("pull-push, squares", (s.frame for s in squares), count, sent)
        for loop in (POINTS_ALONE, SQUARES_ALONE):
            alone = shown_by(loop, count)
            name = f"model, one frame: {loop.name}"
            score(name, (s.frame for s in alone), count, self._sent(alone, loop))
        for loop in (*CLOSED_LOOPS, *self._other_loops):
            shown = shown_by(loop, count)
            score(_closed(loop), (s.frame for s in shown), count, self._sent(shown, loop))
            self._rank(shown, loop, count)
            if loop == ERROR:
                self._picture(shown[-1], squares[-1].frame)
                self._tell(shown, count)

    def _picture(self, shown: Shown, interpolated: Picture) -> None:
        if len(self.pictures) < PICTURED_FRAMES:
            importance = importance_of(shown, ERROR.guide, self._settings)
            self.pictures.append(
                strip(
                    shown.truth,
                    shown.samples,
                    shown.frame,
                    importance,
                    interpolated=interpolated,
                )
            )

    def _played(
        self,
        session_id: str,
        played: Frames,
        loop: Loop,
        count: int,
        *,
        model: SparsePixelTransformer | None = None,
    ) -> list[Shown]:
        atlas = None if model else self._atlas
        model = model or self._model
        shown = play(
            model,
            played,
            loop,
            self._settings,
            session_id=session_id,
            sample_count=count,
            atlas=atlas,
        )
        return list(shown)

    def _sent(self, shown: Sequence[Shown], loop: Loop) -> list[Traffic]:
        return [traffic(s, footprints=loop.footprints, model_version=self._version) for s in shown]

    def _rank(self, shown: Sequence[Shown], loop: Loop, count: int) -> None:
        """How well a guide foretold the errors of the next frame, where nothing was guided."""
        if loop != EVEN:
            return
        for guide in (ENTROPY.guide, ERROR.guide):
            values = [
                rank_correlation(importance_of(before, guide, self._settings), s.frame, s.truth)
                for before, s in pairwise(shown)
            ]
            name = f"{count} samples, {guide}"
            self._ranks.setdefault(name, []).append(float(np.mean(values)))

    def _tell(self, shown: Sequence[Shown], count: int) -> None:
        """The first frame counts here neither; nor one of which a model says nothing."""
        told = [(predicted_psnr_db(s.log_error), picture_psnr_db(s.frame, s.truth)) for s in shown]
        above = [said - true for said, true in told[1:] if said is not None]
        for name, values in (("told minus true", above), ("distance", np.abs(above))):
            if len(values):
                means = self._told.setdefault(f"{count} samples, {name}", [])
                means.append(float(np.mean(values)))

    def report(self, key: str) -> Report:
        """All that was played."""
        return Report(
            key=key,
            model_version=self._version,
            rows=tuple(scores.row() for scores in self._scores.values()),
            gains_db=dict(self._gains()),
            rank_correlations={name: mean_over(values) for name, values in self._ranks.items()},
            told_psnr_db={
                name: mean_over(values)
                for name, values in self._told.items()
                if self._version != UNTRAINED
            },
        )

    def _gains(self) -> Iterator[tuple[str, Mean]]:
        random, grid, points, even, *guided = (_closed(loop) for loop in CLOSED_LOOPS)
        pairs = [*product((points, even, *guided), (random, grid)), *product(guided, (even,))]
        counts = list(dict.fromkeys(samples for _, samples in self._scores if samples))
        for count in counts:
            for name, other in pairs:
                gain = gain_db(self._scores[name, count], self._scores[other, count])
                yield f"{count} samples, {name} over {other}", gain
            true = self._scores[_closed(ERROR), count]
            for loop in self._other_loops:
                gain = gain_db(true, self._scores[_closed(loop), count])
                yield f"{count} samples, {_closed(ERROR)} over {_without(loop)}", gain
        # What placement is worth in samples.
        for fewer, more in pairwise(sorted(counts)):
            for other in (random, grid):
                gain = gain_db(self._scores[_closed(ERROR), fewer], self._scores[other, more])
                yield f"{fewer} samples, {_closed(ERROR)} over {more}, {other}", gain


def _closed(loop: Loop) -> str:
    return f"model, closed loop: {loop.name}"


def _perceptual_score() -> PerceptualScore | None:
    """None where its weights are not installed: everything else can be measured without."""
    try:
        return PerceptualScore()
    except PerceptualUnavailable:
        return None


def _without(loop: Loop) -> str:
    return "no atlas" if not loop.atlas else f"{loop.state} state"


def _checkpoint(
    key: str, settings: Settings
) -> tuple[SparsePixelTransformer, Manifest | None, Atlas | None]:
    """What serves the key; without a checkpoint the untrained prior and no manifest."""
    try:
        return load_serving(settings.data, key)
    except CheckpointNotFound:
        return build_model(settings.model).eval(), None, None
