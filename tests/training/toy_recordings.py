"""Small recordings of a moving pattern, and settings that learn it in seconds."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sgaps.recording import RecordedFrame, SegmentInfo, SegmentWriter, find_segments
from sgaps.sampling.footprints import as_points, sample_image
from sgaps.settings import Settings, load_settings
from trainer.augment import AugmentationPipeline
from trainer.dataset import ExampleOptions, RecordingDataset
from trainer.run import RunReport, train_key

WIDTH, HEIGHT = 48, 32
KEY = "toy"


def scene(shift: int) -> NDArray[np.uint8]:
    """A sharp pattern that no interpolation knows, moving: what a game has and a prior lacks."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.where(((x + shift) // 6 + y // 6) % 2, 210, 40).astype(np.uint8)


def record(
    root: Path,
    session_id: str,
    *,
    frames: int,
    keyframes: bool = True,
    samples: int = 60,
    squares: bool = False,
    broken: Collection[int] = (),
    half_from: int | None = None,
    sentinel: float = -999.0,
) -> None:
    """From `half_from` on all frames are half as wide and high; `broken` are those whose keyframes
    cannot be decoded."""
    writer = SegmentWriter(
        root / KEY / session_id / "000000.h5",
        checkpoint_key=KEY,
        session_id=session_id,
        max_state_dim=64,
        sentinel=sentinel,
    )
    rng = np.random.default_rng(len(session_id))
    recorded = [
        _frame(i, rng, keyframes=keyframes, samples=samples, squares=squares) for i in range(frames)
    ]
    if half_from is not None:
        recorded[half_from:] = map(_halved, recorded[half_from:])
    for i in broken:
        recorded[i] = replace(recorded[i], keyframe=recorded[i].keyframe[:-4])
    writer.append(recorded)
    writer.sync()
    writer.seal()


def _halved(frame: RecordedFrame) -> RecordedFrame:
    _, png = cv2.imencode(".png", scene(frame.frame_id)[::2, ::2])
    return replace(frame, width=WIDTH // 2, height=HEIGHT // 2, keyframe=png.tobytes())


def _frame(
    frame_id: int, rng: np.random.Generator, *, keyframes: bool, samples: int, squares: bool
) -> RecordedFrame:
    image = scene(frame_id)
    coords = as_points(rng.random((samples, 2), np.float32))
    coords[:, 2] = 4 if squares else 1
    _, png = cv2.imencode(".png", image)
    return RecordedFrame(
        frame_id=frame_id,
        coordinate_set_id=0,
        width=WIDTH,
        height=HEIGHT,
        samples=sample_image(image, coords),
        state=np.array([frame_id], np.float32),
        client_time_secs=0.0,
        received_at_secs=0.0,
        keyframe_encoding="png" if keyframes else "",
        keyframe=png.tobytes() if keyframes else b"",
    )


def toy_settings(tmp_path: Path, *overrides: str) -> Settings:
    return load_settings(
        [
            f"data.recordings_dir={tmp_path / 'recordings'}",
            f"data.checkpoints_dir={tmp_path / 'checkpoints'}",
            f"data.shipped_dir={tmp_path / 'shipped'}",
            "training=live",
            "training.learning_rate=3e-3",
            "training.max_epochs=12",
            "training.min_sessions=2",
            "sampling.default_sample_count=60",
            "model.embed_dim=32",
            "model.num_heads=2",
            "model.ffn_dim=48",
            "model.refine_channels=16",
            "model.coarse_channels=[16]",
            *overrides,
        ],
        environment={},
    )


def train(settings: Settings, stop: threading.Event | None = None) -> RunReport:
    return train_key(
        KEY,
        find_segments(settings.data.recordings_dir, KEY),
        settings,
        stop=stop or threading.Event(),
        report=lambda _: None,
    )


def dataset_of(segments: list[SegmentInfo], *, resample: bool = False) -> RecordingDataset:
    sampling = load_settings(["sampling.default_sample_count=60"], environment={}).sampling
    nothing = load_settings(environment={}).augmentation
    options = ExampleOptions(
        history_frames=1,
        sampling=sampling,
        seed=0,
        sentinel=-999.0,
        augmentation=AugmentationPipeline(nothing, sentinel=-999.0) if resample else None,
    )
    return RecordingDataset(segments, options)


def paired(root: Path, *, resample: bool) -> RecordingDataset:
    """Examples with the one before each."""
    plain = toy_settings(root)
    augmentation = AugmentationPipeline(plain.augmentation, sentinel=-999.0)
    options = ExampleOptions(
        history_frames=2,
        sampling=plain.sampling,
        seed=1,
        sentinel=-999.0,
        augmentation=augmentation if resample else None,
        pairs=True,
    )
    return RecordingDataset(find_segments(root), options)
