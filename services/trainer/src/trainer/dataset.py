"""Examples from sealed recordings: what the model would have seen, and what it should have said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sgaps.recording import (
    RecordedFrame,
    SegmentInfo,
    SegmentReader,
    frames_before,
    places_before,
)
from sgaps.settings import SamplingSettings, Settings
from trainer import draw
from trainer.augment import AugmentationPipeline, BatchShape
from trainer.segments import (
    KeyframeCorrupt,
    open_segment,
    places_to_learn_from,
    tell_corrupt,
    whole_frame,
)

HELD_OUT_SHARE = 0.2
"""Share of the sampled pixels kept out of the input where there is no whole frame, at least one."""
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
    before: Example | None = None
    """The whole frame before this one, seen by the same session; where ExampleOptions.pairs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """An example of a training batch."""

    index: int
    shape: BatchShape
    epoch: int
    """In every epoch the random choices are others."""
    fresh: bool = False
    """Whether samples are always drawn, as many as the shape says, and never those that came."""


@dataclass(frozen=True, kw_only=True)
class ExampleOptions:
    """How examples are drawn from recordings."""

    history_frames: int
    sampling: SamplingSettings
    """How samples are drawn from a whole frame, and how many if it was captured without any."""
    seed: int
    sentinel: float
    """Of the states of examples, whatever it was when they were recorded."""
    augmentation: AugmentationPipeline | None = None
    """For training, which also draws fresh samples from keyframes half of the time."""
    curriculum: bool = False
    """Whether a request says how many samples a frame has, though its session sent others."""
    pairs: bool = False
    """Whether examples come with the frame before, as the temporal loss wants them."""

    @classmethod
    def of(cls, settings: Settings, augmentation: AugmentationPipeline | None = None) -> Self:
        """As a run has them: with its augmentation to learn from, without it to be judged by."""
        return cls(
            history_frames=settings.model.history_frames,
            sampling=settings.sampling,
            seed=settings.training.seed,
            sentinel=settings.sentinel_value,
            augmentation=augmentation,
            curriculum=augmentation is not None and bool(settings.training.curriculum),
            pairs=augmentation is not None and settings.loss.temporal > 0,
        )


class RecordingDataset:
    """Frames of sealed segments, read when asked for: 16 bytes of memory per frame, and 23 while
    there are batches of 8, but 49 while they are drawn.

    Learns from keyframes where any can be decoded, else from held-out samples of every frame that
    has some.
    """

    def __init__(self, segments: Sequence[SegmentInfo], options: ExampleOptions) -> None:
        self._options = options
        self.segments = tuple(segments)
        self._places, self.has_keyframes = places_to_learn_from(segments)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, wanted: int | Request) -> Example:
        """A frame as a session would send it, or as training wants it.

        In place of one whose keyframe cannot be decoded another one of its size: bad pictures of
        one client must not end the learning of its key. Raises RecordingCorrupt.
        """
        if isinstance(wanted, int):
            whole = BatchShape(samples=self._options.sampling.default_sample_count)
            wanted = Request(index=wanted, shape=whole, epoch=0)
        for index in self._in_place_of(wanted.index):
            try:
                return self._at(replace(wanted, index=index))
            except KeyframeCorrupt as error:
                tell_corrupt(self.segments[int(self._places[index, 0])].path)
                last = error
        raise last

    def _in_place_of(self, index: int) -> Iterator[int]:
        """This frame, then all others of its size, from everywhere: its neighbours are of the same
        client."""
        yield index
        same = np.flatnonzero((self._places[:, 2:] == self._places[index, 2:]).all(axis=1))
        yield from np.random.default_rng(index).permutation(same[same != index]).tolist()

    def _at(self, wanted: Request) -> Example:
        segment, position = self._places[wanted.index, :2].tolist()
        rng = np.random.default_rng((self._options.seed, wanted.epoch, wanted.index))
        reader = open_segment(self.segments[segment], self._options.sentinel)
        if not self.has_keyframes:
            return _masked(reader, position, self._options, rng)
        return _example(reader, position, self._options, wanted, rng)

    def batches(
        self, batch_size: int, rng: np.random.Generator, *, most_pixels: int
    ) -> list[NDArray[np.intp]]:
        """Shuffled indices in batches of one resolution each, smaller ones of large pictures.

        `most_pixels` are those of all pictures of a batch, those that come as pairs too.
        """
        batches = []
        pictures = 2 if self._options.pairs and self.has_keyframes else 1
        sizes, which = np.unique(self._places[:, 2:], axis=0, return_inverse=True)
        for number, pixels in enumerate(sizes.prod(axis=1).tolist()):
            order = rng.permutation(np.flatnonzero(which == number))
            step = max(1, min(batch_size, most_pixels // (pixels * pictures)))
            batches += [order[i : i + step] for i in range(0, len(order), step)]
        return [batches[i] for i in rng.permutation(len(batches))]


def _masked(
    reader: SegmentReader, position: int, options: ExampleOptions, rng: np.random.Generator
) -> Example:
    """Without a whole frame: some of the samples in, the others held out."""
    frame = reader.read(position)
    order = rng.permutation(len(frame.samples))
    held_out = max(1, int(len(order) * HELD_OUT_SHARE))
    return Example(
        samples=frame.samples[order[held_out:]],
        history=_past_samples(reader, position, options),
        state=_state(frame, options, rng),
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
    wanted: Request,
    rng: np.random.Generator,
) -> Example:
    """With a whole frame: the samples it was sent with if they are as many as wanted, or fresh.

    As many as its session sends are wanted, and so it is judged by what it sent, whatever that is.
    """
    shape = wanted.shape
    samples = reader.read(position, keyframe=False).samples
    sent = samples[:0] if wanted.fresh else samples
    if len(sent) and not options.curriculum:
        shape = replace(shape, samples=max(1, round(len(sent) * shape.crop**2)))
    half = options.augmentation is not None and rng.random() < 0.5  # noqa: PLR2004
    if half or not shape.is_whole or len(sent) != shape.samples:
        return _drawn(reader, position, options, shape, sent, rng)
    example = _recorded(reader, position, options, rng)
    if not options.pairs:
        return example
    for place in places_before(reader.frame_ids, position, options.history_frames):
        if reader.read(place).keyframe and reader.resolution(place) == reader.resolution(position):
            with suppress(KeyframeCorrupt):
                return replace(example, before=_recorded(reader, place, options, rng))
    return example


def _recorded(
    reader: SegmentReader, position: int, options: ExampleOptions, rng: np.random.Generator
) -> Example:
    """A whole frame, with the samples that the session had of it and of those before it."""
    frame = reader.read(position)
    return Example(
        samples=frame.samples,
        history=_past_samples(reader, position, options),
        state=_state(frame, options, rng),
        width=frame.width,
        height=frame.height,
        target=whole_frame(reader, frame),
        held_out=np.empty((0, 4), np.float32),
        session_id=reader.session_id,
    )


def _state(frame: RecordedFrame, options: ExampleOptions, rng: np.random.Generator) -> Float32:
    """(S,), as training changes it."""
    if options.augmentation is None:
        return frame.state
    return options.augmentation.state(frame.state, rng)


def _past_samples(
    reader: SegmentReader, position: int, options: ExampleOptions
) -> tuple[tuple[int, Float32], ...]:
    """(age, samples) as the session had them, the newest first."""
    past = _earlier(reader, position, options)
    return tuple((age, frame.samples) for age, frame in past if len(frame.samples))


def _drawn(
    reader: SegmentReader,
    position: int,
    options: ExampleOptions,
    shape: BatchShape,
    sent: Float32,
    rng: np.random.Generator,
) -> Example:
    """Freshly drawn samples of this frame, and of those before it that came whole.

    Squares where its session sent some, points where it `sent` points; any where it sent nothing.
    In training sessions are of any age, for a model must also know how to begin.
    """
    augment = options.augmentation
    length = None if augment is None else int(rng.integers(options.history_frames + 1))
    kind = draw.Kind() if augment is None else draw.any_kind(rng)
    if len(sent):
        kind = replace(kind, footprints=bool((sent[:, 3] > 1).any()))
    earlier = [past for past in _earlier(reader, position, options) if past[1].keyframe]
    frames = [(0, reader.read(position))]
    truths = [whole_frame(reader, frames[0][1])]
    for age, frame in earlier[:length]:
        with suppress(KeyframeCorrupt):
            truths.append(whole_frame(reader, frame))
            frames.append((age, frame))
    states, seen = [frame.state for _, frame in frames], truths
    if augment is not None:
        flip = augment.flips(rng)
        truths = augment.truths(truths, shape, rng, flip=flip)
        seen = [augment.seen(truth, rng) for truth in truths]
        lies = flip or shape.crop < 1
        states = [augment.state(state, rng, lies=lies) for state in states]
    height, width = truths[0].shape
    sampling = options.sampling.model_copy(
        update={"default_sample_count": min(shape.samples, width * height)}
    )
    # What the loop would have known when it chose: the frame before.
    known = [*seen[1:], None]
    drawn = [
        draw.samples(shown, before, kind, sampling, rng)
        for shown, before in zip(seen, known, strict=True)
    ]

    def example(which: int) -> Example:
        """Of the frames from this one backwards."""
        now = frames[which][0]
        older = range(which + 1, len(frames))
        return Example(
            samples=drawn[which],
            history=tuple((frames[i][0] - now, drawn[i]) for i in older),
            state=states[which],
            width=width,
            height=height,
            target=truths[which],
            held_out=np.empty((0, 4), np.float32),
            session_id=reader.session_id,
        )

    has_pair = options.pairs and len(frames) > 1
    return replace(example(0), before=example(1)) if has_pair else example(0)


def _earlier(
    reader: SegmentReader, position: int, options: ExampleOptions
) -> list[tuple[int, RecordedFrame]]:
    """(age in frames, frame) of those before, the newest first."""
    size = reader.resolution(position)
    return frames_before(reader.read, reader.frame_ids, position, options.history_frames, size=size)
