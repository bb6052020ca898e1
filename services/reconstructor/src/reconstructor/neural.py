"""The Sparse Pixel Transformer as a reconstructor: frames in, frames and maps out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reconstructor.forward import SEEN_BEFORE_CAPTURE, batch_size, columns
from reconstructor.frame import FrameInput, Reconstruction
from reconstructor.gpus import device_of
from reconstructor.models import Models, Serving
from sgaps.atlas.blend import Rebuilt, with_atlas
from sgaps.checkpoints import DEFAULT_KEY, UNTRAINED
from sgaps.model import (
    CheckpointStore,
    ModelInput,
    collate,
    predicted_psnr_db,
    prepare_cpu,
)
from sgaps.settings import ModelSettings, Settings

WARM_UP_SIZE = (320, 240)
WARM_UP_RUNS = SEEN_BEFORE_CAPTURE + 1
CPU_BATCH = 1
"""Frames of a forward pass on a CPU: 16 at once are no faster than one by one, and 1.7 times slower
where other processes compete for the memory."""
CPU_FRAMES_AT_ONCE = 4
"""One by one, so each more would make the others wait by its own time."""


class NeuralReconstructor:
    """Groups frames by model and resolution: one forward pass for each group."""

    def __init__(self, stores: Sequence[CheckpointStore], settings: Settings) -> None:
        """Stores that come first go before later ones."""
        self._stores = stores
        self._settings = settings
        self._device = device_of(settings.reconstructor)
        self.frames_at_once = settings.reconstructor.max_batch
        if self._device.type == "cpu":
            self.frames_at_once = min(self.frames_at_once, CPU_FRAMES_AT_ONCE)
        # Beside a GPU too: the atlas is blended by the processor.
        prepare_cpu(settings.reconstructor.cpu_threads)
        self._models = Models(stores, settings, self._device)

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        if self._device.type == "cpu":
            torch.set_flush_denormal(True)  # in whatever thread of a pool this is
        results: dict[int, Reconstruction] = {}
        groups: dict[tuple[int, int, Serving], list[int]] = {}
        for i, frame in enumerate(frames):
            serving = self._models.of(frame.checkpoint_key)
            groups.setdefault((frame.width, frame.height, serving), []).append(i)
        for (_, _, serving), indices in groups.items():
            for part in self._passes(indices):
                rebuilt = self._forward(serving, [frames[i] for i in part])
                results.update(zip(part, rebuilt, strict=True))
        return [results[i] for i in range(len(frames))]

    def _passes(self, indices: list[int]) -> list[list[int]]:
        size = CPU_BATCH if self._device.type == "cpu" else len(indices)
        return [indices[start : start + size] for start in range(0, len(indices), size)]

    def _forward(self, serving: Serving, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        shape = serving.settings
        # An untrained error head knows nothing: better none than a number that means nothing.
        trained = serving.version != UNTRAINED
        by_entropy = self._settings.importance.method == "attention_entropy" or not trained
        told = serving.forward(self._inputs(frames, shape), entropy=by_entropy)
        images, log_errors, *entropy = (array[: len(frames)] for array in told)
        entropies = entropy[0] if by_entropy else [None] * len(images)
        rebuilt = (
            with_atlas(
                serving.atlas,
                Rebuilt(image, log_error),
                samples=frame.samples,
                state=frame.state,
                sentinel=self._settings.sentinel_value,
            )
            for image, log_error, frame in zip(images, log_errors, frames, strict=True)
        )
        return [
            Reconstruction(
                image=frame,
                grid=log_error.shape,
                entropy=entropy,
                log_error=log_error if trained else None,
                predicted_psnr_db=predicted_psnr_db(log_error) if trained else None,
                model_version=serving.version,
            )
            for (frame, log_error), entropy in zip(rebuilt, entropies, strict=True)
        ]

    def _inputs(self, frames: Sequence[FrameInput], shape: ModelSettings) -> ModelInput:
        """A batch on the host; for a GPU of a shape that comes again and again."""
        pasts = [frame.history[: shape.history_frames] for frame in frames]
        rows = [(f.samples, past, f.state) for f, past in zip(frames, pasts, strict=True)]
        room = (1, 0)
        if self._device.type == "cuda":
            longest = max(len(s) for now, past, _ in rows for s in (now, *(s for _, s in past)))
            room = (columns(longest), shape.history_frames)
            rows += rows[-1:] * (batch_size(len(rows)) - len(rows))
        return collate(
            rows,
            width=frames[0].width,
            height=frames[0].height,
            attended_frames=shape.attended_frames,
            max_state_dim=shape.max_state_dim,
            sentinel=self._settings.sentinel_value,
            room=room,
        )

    def is_at_hand(self, key: str) -> bool:
        return self._models.is_at_hand(key)

    def serving(self) -> dict[str, str]:
        return self._models.versions()

    def refresh(self) -> int:
        return self._models.refresh()

    def warm_up(self) -> None:
        width, height = WARM_UP_SIZE
        count = self._settings.sampling.default_sample_count
        drawn = np.random.default_rng(0).random((count, 3), np.float32)
        samples = np.column_stack([drawn, np.ones(count, np.float32)])
        history = tuple((age, samples) for age in range(1, self._settings.model.history_frames + 1))
        frame = FrameInput(
            checkpoint_key=DEFAULT_KEY,
            samples=samples,
            state=np.empty(0, np.float32),
            width=width,
            height=height,
            history=history,
        )
        for _ in range(WARM_UP_RUNS):
            self.reconstruct([frame])
