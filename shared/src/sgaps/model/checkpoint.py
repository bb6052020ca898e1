"""Weights on disk: safetensors beside a manifest with their hash. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime

import safetensors.torch
import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from torch import Tensor

from sgaps.checkpoints import (
    DEFAULT_KEY,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    CheckpointDirectory,
    DataCard,
    Manifest,
    Metrics,
    sync_folder,
    version_number,
    write_durably,
)
from sgaps.errors import (
    CheckpointError,
    CheckpointNotFound,
    CheckpointRejected,
    CheckpointUnreadable,
)
from sgaps.model.builder import build_model
from sgaps.model.transformer import SparsePixelTransformer
from sgaps.settings import DataSettings, ModelSettings

log = logging.getLogger(__name__)


class CheckpointStore(CheckpointDirectory):
    """Publishes and loads checkpoints under a root."""

    def publish(
        self,
        key: str,
        model: SparsePixelTransformer,
        *,
        settings: ModelSettings,
        metrics: Metrics,
        parent: str | None,
        data: DataCard,
        training: dict[str, JsonValue],
    ) -> Manifest:
        """Write a new version, all of it durable, then put it in force."""
        weights = safetensors.torch.save(
            {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        )
        digest = hashlib.sha256(weights).hexdigest()
        manifest = Manifest(
            checkpoint_key=key,
            model_version=f"v{self._next_number(key):04d}-{digest[:8]}",
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            weights_sha256=digest,
            weights_bytes=len(weights),
            model=settings,
            metrics=metrics,
            parent=parent,
            data=data,
            training=training,
        )
        self._write(manifest, weights)
        self.promote(key, manifest.model_version)
        return manifest

    def _next_number(self, key: str) -> int:
        return max(map(version_number, self.versions(key)), default=0) + 1

    def _write(self, manifest: Manifest, weights: bytes) -> None:
        folder = self.key_dir(manifest.checkpoint_key) / manifest.model_version
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_durably(temporary / WEIGHTS_NAME, weights)
        write_durably(temporary / MANIFEST_NAME, manifest.model_dump_json(indent=2).encode())
        temporary.rename(folder)
        sync_folder(folder.parent)

    def load_current(self, key: str) -> tuple[SparsePixelTransformer, Manifest]:
        """The checkpoint in force. Raises CheckpointNotFound, CheckpointRejected."""
        version = self.current_version(key)
        if version is None:
            raise CheckpointNotFound(f"there is no checkpoint of {key!r}")
        return self.load(key, version)

    def load(self, key: str, version: str) -> tuple[SparsePixelTransformer, Manifest]:
        """A version, checked from hash to last number. Raises CheckpointError."""
        manifest = self.manifest(key, version)
        if manifest.metrics.val_psnr_db < manifest.metrics.champion_psnr_db:
            raise CheckpointRejected(f"{key}/{version} is worse than what it would replace")
        weights = self.read_file(key, version, WEIGHTS_NAME, manifest.weights_bytes)
        torn = len(weights) != manifest.weights_bytes
        if torn or hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
            raise CheckpointRejected(f"{key}/{version}: the weights are torn or not its own")
        return _model_of(weights, manifest), manifest


def stores_of(data: DataSettings) -> tuple[CheckpointStore, ...]:
    """Where checkpoints are looked for, in this order: one's own, then the shipped ones."""
    return CheckpointStore(data.checkpoints_dir), CheckpointStore(data.shipped_dir)


def load_serving(data: DataSettings, key: str) -> tuple[SparsePixelTransformer, Manifest]:
    """What serves a key: its own checkpoint, else the default one.

    One that is torn is passed over, as a reconstructor does. Raises CheckpointError: of the first
    one that was, where nothing else is there.
    """
    passed_over: CheckpointError | None = None
    for name in (key, DEFAULT_KEY):
        for store in stores_of(data):
            try:
                if store.current_version(name) is not None:
                    return store.load_current(name)
            except CheckpointUnreadable:  # to train or measure another one instead would be worse
                raise
            except CheckpointError as error:
                log.warning("passed over: %s", error)
                passed_over = passed_over or error
    raise passed_over or CheckpointNotFound(
        f"there is no checkpoint of {key!r}, and no default one"
    )


def _model_of(weights: bytes, manifest: Manifest) -> SparsePixelTransformer:
    name = f"{manifest.checkpoint_key}/{manifest.model_version}"
    try:
        tensors = safetensors.torch.load(weights)
    except (SafetensorError, KeyError) as error:  # a KeyError is a number type that torch lacks
        raise CheckpointRejected(f"{name}: no safetensors file: {error}") from error
    with torch.device("meta"):  # costs no memory, whatever size the manifest claims
        expected = build_model(manifest.model).state_dict()
    if _kinds(tensors) != _kinds(expected):
        raise CheckpointRejected(f"{name}: other tensors than those of the model it claims to be")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointRejected(f"{name}: a weight is not finite")
    model = build_model(manifest.model)
    model.load_state_dict(tensors)
    return model.eval()


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
