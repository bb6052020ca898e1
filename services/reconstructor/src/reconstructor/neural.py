"""The Sparse Pixel Transformer as a reconstructor: a model per key, swapped while it serves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from reconstructor.forward import SEEN_BEFORE_CAPTURE, Forward, batch_size, columns
from reconstructor.frame import FrameInput, Reconstruction
from reconstructor.gpus import device_of
from sgaps.atlas.atlas import Atlas
from sgaps.atlas.blend import Rebuilt, with_atlas
from sgaps.checkpoints import DEFAULT_KEY, UNTRAINED
from sgaps.errors import (
    CheckpointError,
    CheckpointNotFound,
    CheckpointRejected,
    CheckpointUnreadable,
)
from sgaps.metrics.reconstructor import refuse_checkpoints
from sgaps.model import (
    CheckpointStore,
    ModelInput,
    SparsePixelTransformer,
    build_model,
    collate,
    predicted_psnr_db,
    prepare_cpu,
)
from sgaps.settings import ModelSettings, Settings

log = logging.getLogger(__name__)

_Place: TypeAlias = tuple[Path, str, str]
"""A store's root, a key, a version."""
WARM_UP_SIZE = (320, 240)
WARM_UP_RUNS = SEEN_BEFORE_CAPTURE + 1
CPU_BATCH = 1
"""Frames of a forward pass on a CPU: 16 at once are no faster than one by one, and 1.7 times slower
where other processes compete for the memory."""
CPU_FRAMES_AT_ONCE = 4
"""One by one, so each more would make the others wait by its own time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Serving:
    """A model and what it is called."""

    forward: Forward
    settings: ModelSettings
    """Its own shape, which need not be the configured one."""
    version: str
    atlas: Atlas | None = None


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
            prepare_cpu(settings.reconstructor.cpu_threads)
        untrained = Forward(build_model(settings.model).eval().to(self._device), self._device)
        prior = Serving(forward=untrained, settings=settings.model, version=UNTRAINED)
        self._models = {DEFAULT_KEY: prior}
        self._refused: set[_Place] = set()
        """What is not looked at again."""
        self._told: set[_Place] = set()
        """What was in trouble, these among them: it is logged once."""
        self._keys_in_trouble: set[str] = set()
        """Keys whose checkpoint in force was not taken at the last look."""
        self.refresh()

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        # Looked up once: a swap meanwhile is for the next batch.
        models = self._models
        results: dict[int, Reconstruction] = {}
        groups: dict[tuple[int, int, Serving], list[int]] = {}
        for i, frame in enumerate(frames):
            serving = models.get(frame.checkpoint_key, models[DEFAULT_KEY])
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

    def serving(self) -> dict[str, str]:
        return {key: serving.version for key, serving in self._models.items()}

    def refresh(self) -> int:
        swapped, places = 0, self._places()
        self._keys_in_trouble.clear()
        for key, stores in places.items():
            if serving := self._newest(stores, key):
                self._models = {**self._models, key: serving}
                swapped += 1
        refuse_checkpoints({key: key in self._keys_in_trouble for key in places})
        return swapped

    def _places(self) -> dict[str, list[CheckpointStore]]:
        """Where each key has checkpoints, in the order of the stores."""
        places: dict[str, list[CheckpointStore]] = {}
        for store in self._stores:
            for key in store.all_keys():
                places.setdefault(key, []).append(store)
        return places

    def _newest(self, stores: Sequence[CheckpointStore], key: str) -> Serving | None:
        """A later store is asked only where an earlier one has nothing usable for a key that has
        nothing yet."""
        for store in stores:
            if serving := self._load_if_new(store, key):
                return serving
            if key in self._models and self._models[key].version != UNTRAINED:
                break
        return None

    def _load_if_new(self, store: CheckpointStore, key: str) -> Serving | None:
        """The checkpoint in force if it is another one and can be used; refused ones once only."""
        version = None
        try:
            version = store.current_version(key)
            if version is None:
                return None
            if (store.root, key, version) in self._refused:
                self._keys_in_trouble.add(key)
                return None
            if key in self._models and self._models[key].version == version:
                return None
            model, manifest, atlas = store.load(key, version)
            if manifest.model.color_channels != 1:
                raise CheckpointRejected(f"{key}/{version} is for frames in color, these are gray")
            serving = Serving(
                forward=self._on_device(model),
                settings=manifest.model,
                version=version,
                atlas=atlas,
            )
        except CheckpointError as error:
            self._refuse((store.root, key, version or ""), error)
            return None
        log.info("%s now serves %s", version, key)
        return serving

    def _on_device(self, model: SparsePixelTransformer) -> Forward:
        try:
            return Forward(model.to(self._device), self._device)
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is the former
            raise CheckpointUnreadable(f"it cannot be put on {self._device}: {error}") from error

    def _refuse(self, which: _Place, error: CheckpointError) -> None:
        """Tell it once. What only could not be read, or is not all there yet, is tried again."""
        if which not in self._told:
            log.error("keeping the old model of %s: %s", which[1], error)
        self._told.add(which)
        self._keys_in_trouble.add(which[1])
        if not isinstance(error, CheckpointUnreadable | CheckpointNotFound):
            self._refused.add(which)

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
