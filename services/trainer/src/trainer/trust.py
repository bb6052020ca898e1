"""From recordings to how far the atlas of their level can be trusted."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.blend import Compared, Rebuilt, compared, projected
from sgaps.atlas.pictures import Float32, resized
from sgaps.atlas.trust import Trust
from sgaps.model import SparsePixelTransformer
from sgaps.model.prior import Level
from sgaps.recording import SegmentInfo
from sgaps.settings import Settings
from trainer.atlas import views_of
from trainer.dataset import RecordingDataset
from trainer.pictures import gray
from trainer.rebuild import rebuilt
from trainer.validation import spread

PROBES = 160
"""Frames that it is learned from."""
FEWEST_PROBES = 16
STEPS = 240
BATCH = 8
WARMUP_STEPS = 10
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-4
SEED = 0
SHARPNESS = 1.0
"""Log odds that the atlas is given beyond those of the least squared error: it is sharp where a
frame is a guess, and half of each looks worse than either."""
MOST_ROWS, MOST_COLUMNS = 60, 80
"""Small pixels of a probe that are learned from: memory does not grow with the frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lessons:
    """What was seen of the probes, in small pixels.

    With a share s of the atlas the squared error of a frame, made to agree with its samples, is
    the mean of s * s * quadratic - 2 * s * linear + constant.
    """

    features: Tensor
    """(P, FEATURES, h, w)"""
    log_odds: Tensor
    """(P, h, w), as all that follow; of squared grey levels."""
    quadratic: Tensor
    linear: Tensor
    constant: Tensor


def taught(
    atlas: Atlas,
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    *,
    stop: threading.Event,
) -> Atlas:
    """The same, trusted as far as it helps with frames of these sessions, each by the others.

    As it was where there are no others. What was known before of a session is left out too, as far
    as the session is still there. Raises RecordingCorrupt.
    """
    probes = list(_probes(atlas, model, dataset, settings, stop))
    if len(probes) < FEWEST_PROBES or stop.is_set():
        return atlas
    trust = _fitted(_stacked(probes), stop)
    return atlas if stop.is_set() else replace(atlas, trust=trust)


def _probes(
    atlas: Atlas,
    model: SparsePixelTransformer,
    dataset: RecordingDataset,
    settings: Settings,
    stop: threading.Event,
) -> Iterator[_Lessons]:
    model.eval()
    own = _pictures_by_session(atlas, dataset.segments, settings.sentinel_value)
    chosen = spread(len(dataset), PROBES)
    for index in tqdm(chosen, desc="try the atlas", leave=False, disable=None):
        if stop.is_set():
            return
        example = dataset[index]
        _, output = rebuilt(model, example, settings)
        both = compared(
            atlas,
            Rebuilt(
                gray(output.frame[0, 0].cpu().numpy()), output.log_error[0].float().cpu().numpy()
            ),
            samples=example.samples,
            state=example.state,
            sentinel=settings.sentinel_value,
            but=own[example.session_id],
        )
        if both is not None and example.target is not None:
            yield _lesson(both, example.target.astype(np.float32), np.random.default_rng(index))


def _pictures_by_session(
    atlas: Atlas, segments: Sequence[SegmentInfo], sentinel: float
) -> Mapping[str, frozenset[int]]:
    """What each session would otherwise be shown of itself."""
    places = {pose: index for index, pose in enumerate(atlas.poses)}
    own: dict[str, set[int]] = defaultdict(set)
    for view in views_of(segments, atlas.layout, sentinel):
        if view.pose in places:
            own[view.segment.session_id].add(places[view.pose])
    return {session: frozenset(own[session]) for session in {s.session_id for s in segments}}


def _lesson(both: Compared, truth: Float32, rng: np.random.Generator) -> _Lessons:
    """Of a part of the frame, where that is large."""
    rows, columns = both.log_odds.shape
    top = int(rng.integers(max(rows - MOST_ROWS, 0) + 1))
    left = int(rng.integers(max(columns - MOST_COLUMNS, 0) + 1))
    part = slice(top, top + MOST_ROWS), slice(left, left + MOST_COLUMNS)
    # Made to agree with the samples, of a change remains what no sample tells of.
    free = [Level(torch.zeros_like(known.mean), known.is_known) for known in both.levels]
    change = projected(both.picture - both.frame, free)
    wanted = truth - both.frame

    def small(values: Float32) -> Tensor:
        return torch.from_numpy(resized(values, (columns, rows), cv2.INTER_AREA)[part].copy())

    return _Lessons(
        features=torch.from_numpy(both.features[:, *part].copy()),
        log_odds=torch.from_numpy(both.log_odds[part].copy()),
        quadratic=small(change * change),
        linear=small(change * wanted),
        constant=small(wanted * wanted),
    )


def _stacked(lessons: Sequence[_Lessons]) -> _Lessons:
    names = [field.name for field in fields(_Lessons)]
    return _Lessons(**{n: torch.stack([getattr(lesson, n) for lesson in lessons]) for n in names})


def _fitted(lessons: _Lessons, stop: threading.Event) -> Trust:
    """Adam; the learning rate falls as a cosine."""
    trust, draw = Trust(), torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(trust.parameters(), weight_decay=WEIGHT_DECAY)
    for step in tqdm(range(STEPS), desc="learn to trust it", leave=False, disable=None):
        if stop.is_set():
            break
        for group in optimiser.param_groups:
            begun = min(1, (step + 1) / WARMUP_STEPS)
            group["lr"] = LEARNING_RATE * begun * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        chosen = torch.randint(len(lessons.log_odds), (BATCH,), generator=draw)
        loss = _loss(trust, lessons, chosen)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    trust.last.state_dict()["bias"] += SHARPNESS
    return trust


def _loss(trust: Trust, lessons: _Lessons, chosen: Tensor) -> Tensor:
    """Log of the squared error: a decibel counts as much in any frame."""
    share = trust(lessons.features[chosen], lessons.log_odds[chosen])
    error = (
        share * share * lessons.quadratic[chosen]
        - 2 * share * lessons.linear[chosen]
        + lessons.constant[chosen]
    )
    return torch.log(error.mean((1, 2)) + 1).mean()
