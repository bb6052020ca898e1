"""A checkpoint beside everything else one could do with the same samples of the same frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sgaps.atlas.atlas import Atlas
from sgaps.checkpoints import UNTRAINED, Manifest
from sgaps.errors import CheckpointNotFound, SgapsError
from sgaps.model import SparsePixelTransformer, build_model, load_serving, predicted_psnr_db
from sgaps.recording import SegmentInfo, SegmentReader, find_segments
from sgaps.settings import Settings
from trainer.baselines import X264_LEAST_BYTES, dct_oracle, linear, telea, x264
from trainer.champion import sessions_of
from trainer.closed_loop import Frames, Loop, Shown, importance_of, play
from trainer.dataset import whole_frame
from trainer.perceptual import SMALLEST_SIDE_PX, PerceptualScore, PerceptualUnavailable
from trainer.pictures import Picture, strip
from trainer.scores import (
    Mean,
    Row,
    Scores,
    frame_psnr_db,
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
    Loop(guide="nothing"),
    Loop(guide="attention_entropy"),
    Loop(guide="predicted_error"),
)
EVEN, ENTROPY, ERROR = CLOSED_LOOPS[2:]
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
    """Of a session as it is served: how far the PSNR that a client is told is from the true one.

    Empty where the model is untrained, and a client told nothing.
    """


def compare(
    key: str, settings: Settings, *, frames: int, counts: Sequence[int] = ()
) -> tuple[Report, list[Picture]]:
    """The report, and a strip of pictures for some of the frames. Raises SgapsError."""
    model, manifest, atlas = _checkpoint(key, settings)
    if manifest is not None:  # it is served in its own shape, whatever is configured
        settings = settings.model_copy(update={"model": manifest.model})
    trained_on = sessions_of(manifest, settings.data) if manifest else frozenset()
    sessions = {
        session_id: _frames(segments, frames)
        for session_id, segments in _sessions(key, settings, trained_on).items()
    }
    if not all(len(played) > 1 for played in sessions.values()):
        raise SgapsError("two frames of each session are needed: a frame and the one before it")
    counts = _counts(counts or (settings.sampling.default_sample_count,), sessions.values())
    table = _Table(settings, model, atlas, prior=build_model(settings.model).eval())
    bar = tqdm(desc=f"evaluate {key}", total=len(sessions) * len(counts), unit="session")
    medians = _medians(sessions)
    for session_id, played in sessions.items():
        table.play_without_samples(session_id, played, medians[session_id])
        for count in counts:
            table.play(session_id, played, count)
            bar.update()
    bar.close()
    version = manifest.model_version if manifest else UNTRAINED
    return table.report(key, version), table.pictures


class _Table:
    """All rows, filled session by session."""

    def __init__(
        self,
        settings: Settings,
        model: SparsePixelTransformer,
        atlas: Atlas | None,
        *,
        prior: SparsePixelTransformer,
    ) -> None:
        self._settings = settings
        self._model = model
        self._atlas = atlas
        self._other_loops = (WRONG_STATE, NO_STATE, *((NO_ATLAS,) if atlas else ()))
        self._prior = prior
        self._scores: dict[tuple[str, int], Scores] = {}
        self._ranks: dict[str, list[float]] = {}
        self._told: dict[str, list[float]] = {}
        self._perceptual = _perceptual_score()
        self.pictures: list[Picture] = []

    def _score(
        self, session_id: str, played: Frames, name: str, rebuilt: Iterable[Picture], samples: int
    ) -> None:
        """The first frame counts nowhere: it has none before it."""
        row = self._scores.setdefault((name, samples), Scores(name, samples=samples))
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
        score("x264, a byte per sample", x264(truths, count), count)
        points = self._played(played, POINTS_ALONE, count, model=self._prior)
        classical: dict[str, Callable[[Shown], Picture]] = {
            "linear, points": lambda s: linear(s.samples, *s.size),
            "Telea, points": lambda s: telea(s.samples, *s.size),
            "pull-push, points": lambda s: s.frame,
        }
        for name, method in classical.items():
            score(name, map(method, points), count)
        squares = self._played(played, SQUARES_ALONE, count, model=self._prior)
        score("pull-push, squares", (s.frame for s in squares), count)
        for loop in (POINTS_ALONE, SQUARES_ALONE):
            alone = self._played(played, loop, count)
            score(f"model, one frame: {loop.name}", (s.frame for s in alone), count)
        for loop in (*CLOSED_LOOPS, *self._other_loops):
            shown = self._played(played, loop, count)
            score(_closed(loop), (s.frame for s in shown), count)
            self._rank(shown, loop, count)
            if loop == ERROR:  # as it is served
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
        played: Frames,
        loop: Loop,
        count: int,
        *,
        model: SparsePixelTransformer | None = None,
    ) -> list[Shown]:
        atlas = None if model else self._atlas
        model = model or self._model
        return list(play(model, played, loop, self._settings, sample_count=count, atlas=atlas))

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
        told = [(predicted_psnr_db(s.log_error), frame_psnr_db(s.frame, s.truth)) for s in shown]
        above = [said - true for said, true in told[1:] if said is not None]
        for name, values in (("told minus true", above), ("distance", np.abs(above))):
            if len(values):
                means = self._told.setdefault(f"{count} samples, {name}", [])
                means.append(float(np.mean(values)))

    def report(self, key: str, version: str) -> Report:
        """All that was played."""
        return Report(
            key=key,
            model_version=version,
            rows=tuple(scores.row() for scores in self._scores.values()),
            gains_db=dict(self._gains()),
            rank_correlations={name: mean_over(values) for name, values in self._ranks.items()},
            told_psnr_db={
                name: mean_over(values)
                for name, values in self._told.items()
                if version != UNTRAINED
            },
        )

    def _gains(self) -> Iterator[tuple[str, Mean]]:
        random, grid, even, *guided = (_closed(loop) for loop in CLOSED_LOOPS)
        counts = list(dict.fromkeys(samples for _, samples in self._scores if samples))
        for count in counts:
            for name in (even, *guided):
                for other in (random, grid, even):
                    if name != other:
                        gain = gain_db(self._scores[name, count], self._scores[other, count])
                        yield f"{count} samples, {name} over {other}", gain
            true = self._scores[_closed(ERROR), count]
            for loop in self._other_loops:
                gain = gain_db(true, self._scores[_closed(loop), count])
                yield f"{count} samples, as served over {_without(loop)}", gain
        # What placement is worth in samples.
        for fewer, more in pairwise(sorted(counts)):
            for other in (random, grid):
                gain = gain_db(self._scores[_closed(ERROR), fewer], self._scores[other, more])
                yield f"{fewer} samples, {_closed(ERROR)} over {more}, {other}", gain


def _closed(loop: Loop) -> str:
    return f"model, closed loop: {loop.name}"


def _sessions(
    key: str, settings: Settings, trained_on: frozenset[str]
) -> dict[str, list[SegmentInfo]]:
    """Segments with whole frames, by session. Raises SgapsError where there are none.

    Of the recordings folder only those that the checkpoint was not trained on; what data.test
    names is measured all the same, with a warning.
    """
    folders = settings.data.test or (settings.data.recordings_dir,)
    sessions: dict[str, list[SegmentInfo]] = {}
    for folder in folders:
        for segment in find_segments(folder, key):
            if segment.keyframe_count == segment.frame_count:
                sessions.setdefault(segment.session_id, []).append(segment)
    if not sessions:
        raise SgapsError(
            f"no sessions of whole frames of {key!r} in {', '.join(map(str, folders))}; "
            f"make some: sgaps capture GAME --key {key}, or play with server.keyframe_interval=1"
        )
    seen = sorted(trained_on & sessions.keys())
    if settings.data.test:
        if seen:
            log.warning("the checkpoint was trained on %s: too good here", ", ".join(seen))
        return sessions
    unseen = {name: found for name, found in sessions.items() if name not in trained_on}
    if not unseen:
        raise SgapsError(
            f"the checkpoint was trained on every session of {key!r} in {folders[0]}; "
            "record another one, or name sessions to measure it on: data.test=[…]"
        )
    return unseen


def _counts(wanted: Sequence[int], sessions: Iterable[Frames]) -> list[int]:
    """The sample counts that every session has the pixels for, each once. Raises SgapsError."""
    pixels = min(played[0][0].size for played in sessions)
    if max(wanted) > pixels:
        log.warning("the smallest frame has %d pixels: more samples are not measured", pixels)
    counts = list(dict.fromkeys(min(count, pixels) for count in wanted))
    if min(counts) < X264_LEAST_BYTES:
        raise SgapsError(
            f"{min(counts)} samples are too few: x264, which is measured beside them, takes "
            f"{X264_LEAST_BYTES} bytes for a frame at least; give --samples {X264_LEAST_BYTES} "
            "or more, of frames with so many pixels"
        )
    return counts


def _frames(segments: Sequence[SegmentInfo], count: int) -> Frames:
    """The first frames of a session."""
    found: list[tuple[Picture, NDArray[np.float32]]] = []
    for segment in segments:
        with SegmentReader(segment.path) as reader:
            for position in range(min(count - len(found), len(reader))):
                frame = reader.read(position)
                found.append((whole_frame(reader, frame), frame.state))
    return found


def _medians(sessions: dict[str, Frames]) -> dict[str, Picture | None]:
    """For each session the median picture of the others; None where there is no other."""
    medians: dict[str, Picture | None] = {}
    for session_id, played in sessions.items():
        others = [
            truth
            for other, seen in sessions.items()
            for truth, _ in seen
            if other != session_id and truth.shape == played[0][0].shape
        ]
        medians[session_id] = np.median(others, axis=0).astype(np.uint8) if others else None
    return medians


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
