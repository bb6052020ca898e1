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
from sgaps.sampling.patterns import sample_pattern

OPEN_SEGMENTS = 16
HELD_OUT_SHARE = 0.2
"""Share of the sampled pixels kept out of the input where there is no whole frame."""
CROWDED_SHARE, RANDOM_SHARE = 0.25, 0.15
"""Of the sample sets drawn for training; the rest are jittered grids."""
CROWD_GRID = (6, 8)
CROWD_CONTRAST = 2

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One frame to learn from. Exactly one of `target` and `held_out` is there."""

    samples: Float32
    """(N, 3): u, v, value."""
    history: tuple[tuple[int, Float32], ...]
    """(age in frames, samples) of earlier frames."""
    state: Float32
    """(S,)"""
    width: int
    height: int
    target: NDArray[np.uint8] | None
    """(H, W), the whole true frame, where a keyframe gives it."""
    held_out: Float32
    """(M, 3): sampled pixels the input lacks; empty where there is a target."""
    session_id: str


@dataclass(frozen=True, kw_only=True)
class ExampleOptions:
    """How examples are drawn from recordings."""

    history_frames: int
    sample_count: int
    """Samples drawn from a whole frame that was captured without any."""
    seed: int
    resample: bool
    """For training: fresh samples from keyframes half of the time, and in varied places, so that no
    one pattern is learned."""


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
        place = self._places[index]
        rng = np.random.default_rng((self._options.seed, self._epoch, index))
        reader = _reader(place.path)
        return _example(reader, place.position, self._options, rng, masked=not self.has_keyframes)

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


def sample_frame(picture: NDArray[np.uint8], coords: Float32) -> Float32:
    """(N, 3): the picture's values at the coordinates (N, 2)."""
    height, width = picture.shape
    x = np.minimum((coords[:, 0] * width).astype(np.intp), width - 1)
    y = np.minimum((coords[:, 1] * height).astype(np.intp), height - 1)
    values = picture[y, x].astype(np.float32) / 255
    return np.column_stack([coords, values]).astype(np.float32)


@lru_cache(maxsize=OPEN_SEGMENTS)
def _reader(path: Path) -> SegmentReader:
    return SegmentReader(path)


def _places(path: Path, keyframes_only: bool) -> list[_Place]:
    with SegmentReader(path) as reader:
        positions = reader.keyframe_positions if keyframes_only else range(len(reader))
        return [_Place(path, int(p), *reader.resolution(int(p))) for p in positions]


def _example(
    reader: SegmentReader,
    position: int,
    options: ExampleOptions,
    rng: np.random.Generator,
    *,
    masked: bool,
) -> Example:
    frame = reader.read(position)
    picture = None if masked else decode_keyframe(frame)
    fresh = options.resample and rng.random() < 0.5  # noqa: PLR2004 - half
    samples, held_out = _input_of(frame, picture, options, rng, fresh=fresh)
    return Example(
        samples=samples,
        history=tuple(_history(reader, position, options, rng)),
        state=frame.state,
        width=frame.width,
        height=frame.height,
        target=picture,
        held_out=held_out,
        session_id=reader.session_id,
    )


def _input_of(
    frame: RecordedFrame,
    picture: NDArray[np.uint8] | None,
    options: ExampleOptions,
    rng: np.random.Generator,
    *,
    fresh: bool,
) -> tuple[Float32, Float32]:
    """Samples in, and samples held out."""
    nothing = np.empty((0, 3), np.float32)
    if picture is not None and (fresh or not len(frame.samples)):
        return _draw(picture, options, rng), nothing
    if picture is not None:
        return frame.samples, nothing
    order = rng.permutation(len(frame.samples))
    held_out_count = int(len(order) * HELD_OUT_SHARE)
    return frame.samples[order[held_out_count:]], frame.samples[order[:held_out_count]]


def _draw(picture: NDArray[np.uint8], options: ExampleOptions, rng: np.random.Generator) -> Float32:
    height, width = picture.shape
    place = _varied if options.resample else _even
    return sample_frame(
        picture, place(min(options.sample_count, width * height), width, height, rng)
    )


def _even(count: int, width: int, height: int, rng: np.random.Generator) -> Float32:
    return sample_pattern("jittered_grid", count=count, width=width, height=height, rng=rng)


def _varied(count: int, width: int, height: int, rng: np.random.Generator) -> Float32:
    """Coordinates such as sessions have: an even pattern, points at random, or crowds.

    The crowds stand where nothing of the picture draws them, so that the model cannot read its
    content from where samples lie.
    """
    kind = rng.random()
    if kind < CROWDED_SHARE:
        relief = rng.random(CROWD_GRID, np.float32) ** CROWD_CONTRAST
        smooth = cv2.resize(relief, (width, height), interpolation=cv2.INTER_CUBIC).clip(0).ravel()
        chosen = rng.choice(smooth.size, count, replace=False, p=smooth / smooth.sum())
        y, x = np.divmod(chosen, width)
        return np.column_stack([(x + 0.5) / width, (y + 0.5) / height]).astype(np.float32)
    if kind < CROWDED_SHARE + RANDOM_SHARE:
        return sample_pattern("random", count=count, width=width, height=height, rng=rng)
    return _even(count, width, height, rng)


def _history(
    reader: SegmentReader, position: int, options: ExampleOptions, rng: np.random.Generator
) -> Iterator[tuple[int, Float32]]:
    now = int(reader.frame_ids[position])
    for earlier in range(position - 1, max(-1, position - 1 - options.history_frames), -1):
        past = reader.read(earlier)
        age = now - past.frame_id
        if age <= 0:
            continue  # a redelivered frame: recorded out of order
        if len(past.samples):
            yield age, past.samples
        elif past.keyframe:
            yield age, _draw(decode_keyframe(past), options, rng)
