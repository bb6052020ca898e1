"""Examples from sealed recordings: what the model would have seen, and what it should have said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sgaps.errors import RecordingCorrupt
from sgaps.recording import RecordedFrame, SegmentInfo, SegmentReader
from sgaps.settings import SamplingSettings
from trainer import draw
from trainer.augment import AugmentationPipeline, BatchShape

OPEN_SEGMENTS = 16
HELD_OUT_SHARE = 0.2
"""Share of the sampled pixels kept out of the input where there is no whole frame."""
Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One frame to learn from. Exactly one of `target` and `held_out` is there."""

    samples: Float32
    """(N, 4): u, v, value, footprint."""
    history: tuple[tuple[int, Float32], ...]
    """(age in frames, samples) of earlier frames."""
    state: Float32
    """(S,)"""
    width: int
    height: int
    target: NDArray[np.uint8] | None
    """(H, W), the whole true frame, where a keyframe gives it."""
    held_out: Float32
    """(M, 4): samples the input lacks; empty where there is a target."""
    session_id: str


@dataclass(frozen=True, kw_only=True)
class ExampleOptions:
    """How examples are drawn from recordings."""

    history_frames: int
    sampling: SamplingSettings
    """How samples are drawn from a whole frame that was captured without any."""
    seed: int
    augmentation: AugmentationPipeline | None = None
    """For training, which also draws fresh samples from keyframes half of the time, of any kind."""


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    position: int
    width: int
    height: int


class RecordingDataset(Dataset[Example]):
    """Frames of sealed segments, read when asked for; memory does not grow with the recording.

    Learns from keyframes where there are any, else from held-out samples of every frame.
    """

    def __init__(self, segments: Sequence[SegmentInfo], options: ExampleOptions) -> None:
        self._options = options
        self.has_keyframes = any(segment.keyframe_count for segment in segments)
        self._places = [
            place for segment in segments for place in _places(segment.path, self.has_keyframes)
        ]
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        """Raises RecordingCorrupt."""
        return self.example(index, BatchShape(samples=self._options.sampling.default_sample_count))

    def example(self, index: int, shape: BatchShape) -> Example:
        """An example of a batch. Raises RecordingCorrupt."""
        place = self._places[index]
        rng = np.random.default_rng((self._options.seed, self._epoch, index))
        reader = _reader(place.path)
        if not self.has_keyframes:
            return _masked(reader, place.position, self._options, rng)
        return _example(reader, place.position, self._options, shape, rng)

    def next_epoch(self) -> None:
        """Other random choices from here on."""
        self._epoch += 1

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Shuffled indices in batches of one resolution each."""
        sizes: dict[tuple[int, int], list[int]] = {}
        for index, place in enumerate(self._places):
            sizes.setdefault((place.width, place.height), []).append(index)
        batches = []
        for indices in sizes.values():
            order = rng.permutation(indices).tolist()
            batches += [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        for which in rng.permutation(len(batches)):
            yield batches[which]


def decode_keyframe(frame: RecordedFrame) -> NDArray[np.uint8]:
    """The whole frame, uint8 (H, W). Raises RecordingCorrupt."""
    picture = cv2.imdecode(np.frombuffer(frame.keyframe, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None or picture.shape != (frame.height, frame.width):
        raise RecordingCorrupt(f"frame {frame.frame_id}: its keyframe cannot be decoded")
    return np.asarray(picture, dtype=np.uint8)


@lru_cache(maxsize=OPEN_SEGMENTS)
def _reader(path: Path) -> SegmentReader:
    return SegmentReader(path)


def _places(path: Path, keyframes_only: bool) -> list[_Place]:
    with SegmentReader(path) as reader:
        positions = reader.keyframe_positions if keyframes_only else range(len(reader))
        return [_Place(path, int(p), *reader.resolution(int(p))) for p in positions]


def _masked(
    reader: SegmentReader, position: int, options: ExampleOptions, rng: np.random.Generator
) -> Example:
    """Without a whole frame: some of the samples in, the others held out."""
    frame = reader.read(position)
    order = rng.permutation(len(frame.samples))
    held_out = int(len(order) * HELD_OUT_SHARE)
    return Example(
        samples=frame.samples[order[held_out:]],
        history=tuple(_recorded_past(reader, position, options)),
        state=frame.state,
        width=frame.width,
        height=frame.height,
        target=None,
        held_out=frame.samples[order[:held_out]],
        session_id=reader.session_id,
    )


def _example(
    reader: SegmentReader,
    position: int,
    options: ExampleOptions,
    shape: BatchShape,
    rng: np.random.Generator,
) -> Example:
    """With a whole frame: the samples it was sent with, or fresh ones."""
    frame = reader.read(position)
    picture = decode_keyframe(frame)
    fresh = options.augmentation is not None and rng.random() < 0.5  # noqa: PLR2004 - half
    if fresh or not shape.is_whole or not len(frame.samples):
        return _drawn(reader, position, frame, picture, options, shape, rng)
    return Example(
        samples=frame.samples,
        history=tuple(_recorded_past(reader, position, options)),
        state=frame.state,
        width=frame.width,
        height=frame.height,
        target=picture,
        held_out=np.empty((0, 4), np.float32),
        session_id=reader.session_id,
    )


def _recorded_past(
    reader: SegmentReader, position: int, options: ExampleOptions
) -> Iterator[tuple[int, Float32]]:
    """(age, samples) as the session had them, the newest first."""
    for age, past in _earlier(reader, position, options.history_frames):
        if len(past.samples):
            yield age, past.samples


def _whole_past(
    reader: SegmentReader, position: int, options: ExampleOptions
) -> list[tuple[int, NDArray[np.uint8]]]:
    """(age, picture) of those frames before that came whole, the newest first."""
    return [
        (age, decode_keyframe(past))
        for age, past in _earlier(reader, position, options.history_frames)
        if past.keyframe
    ]


def _drawn(
    reader: SegmentReader,
    position: int,
    frame: RecordedFrame,
    picture: NDArray[np.uint8],
    options: ExampleOptions,
    shape: BatchShape,
    rng: np.random.Generator,
) -> Example:
    """Freshly drawn samples of this frame, and of those before it.

    In training sessions are of any age, for a model must also know how to begin.
    """
    augment = options.augmentation
    length = None if augment is None else int(rng.integers(options.history_frames + 1))
    kind = draw.Kind() if augment is None else draw.any_kind(rng)
    earlier = _whole_past(reader, position, options)[:length]
    truths = [picture, *(shown for _, shown in earlier)]
    state, seen = frame.state, truths
    if augment is not None:
        flip = augment.flips(rng)
        truths = augment.truths(truths, shape, rng, flip=flip)
        seen = [augment.seen(truth, rng) for truth in truths]
        state = augment.state(state, rng, flip=flip)
    height, width = truths[0].shape
    sampling = options.sampling.model_copy(
        update={"default_sample_count": min(shape.samples, width * height)}
    )
    # What the loop would have known when it chose: the frame before.
    known = [*seen[1:], None]
    samples, *past = [
        draw.samples(shown, before, kind, sampling, rng)
        for shown, before in zip(seen, known, strict=True)
    ]
    return Example(
        samples=samples,
        history=tuple((age, drawn) for (age, _), drawn in zip(earlier, past, strict=True)),
        state=state,
        width=width,
        height=height,
        target=truths[0],
        held_out=np.empty((0, 4), np.float32),
        session_id=reader.session_id,
    )


def _earlier(
    reader: SegmentReader, position: int, count: int
) -> Iterator[tuple[int, RecordedFrame]]:
    """(age, frame) of those before, the newest first."""
    now = int(reader.frame_ids[position])
    for place in range(position - 1, max(-1, position - 1 - count), -1):
        past = reader.read(place)
        if now > past.frame_id:  # else a redelivered frame: recorded out of order
            yield now - past.frame_id, past
