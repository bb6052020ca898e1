"""Weights on disk: safetensors beside a manifest with their hash. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import safetensors.torch
import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from torch import Tensor

from sgaps.atlas import file as atlas_file
from sgaps.atlas.atlas import Atlas
from sgaps.checkpoints import (
    ATLAS_NAME,
    DEFAULT_KEY,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    WEIGHTS_NAME,
    CheckpointDirectory,
    version_number,
)
from sgaps.durable import fsync_folder, write_durably
from sgaps.errors import (
    CheckpointError,
    CheckpointNotFound,
    CheckpointRejected,
    CheckpointUnreadable,
)
from sgaps.manifest import AtlasCard, DataCard, Manifest, Metrics
from sgaps.model.builder import build_model
from sgaps.model.transformer import SparsePixelTransformer
from sgaps.settings import DataSettings, ModelSettings

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What was loaded."""

    model: SparsePixelTransformer
    manifest: Manifest
    atlas: Atlas | None


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
        atlas: Atlas | None = None,
    ) -> Manifest:
        """Write a new version, all of it durable, then put it in force. Raises CheckpointError."""
        weights = safetensors.torch.save(
            {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        )
        digest = hashlib.sha256(weights).hexdigest()
        pictures = b"" if atlas is None else atlas_file.to_bytes(atlas)
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
            atlas=None if atlas is None else _card(atlas, pictures),
        )
        files = {WEIGHTS_NAME: weights} | ({ATLAS_NAME: pictures} if atlas else {})
        self._write(manifest, files)
        self.promote(key, manifest.model_version)
        return manifest

    def _next_number(self, key: str) -> int:
        return max(map(version_number, self.versions(key)), default=0) + 1

    def _write(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        text = manifest.model_dump_json(indent=2).encode()
        if len(text) > MAX_MANIFEST_BYTES:  # which nobody would read
            raise CheckpointError(
                f"{_name(manifest)} names {len(manifest.data.train_sessions)} sessions: its "
                f"manifest would have more than {MAX_MANIFEST_BYTES} bytes"
            )
        folder = self.key_dir(manifest.checkpoint_key) / manifest.model_version
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            for name, data in files.items():
                write_durably(temporary / name, data)
            write_durably(temporary / MANIFEST_NAME, text)
            temporary.rename(folder)
            fsync_folder(folder.parent)
        except OSError as error:
            raise CheckpointError(f"{_name(manifest)} cannot be written: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def load_current(self, key: str) -> Checkpoint:
        """The checkpoint in force. Raises CheckpointNotFound, CheckpointRejected."""
        version = self.current_version(key)
        if version is None:
            raise CheckpointNotFound(f"there is no checkpoint of {key!r}")
        return self.load(key, version)

    def load(self, key: str, version: str) -> Checkpoint:
        """A version, checked from hash to last number. Raises CheckpointError."""
        manifest = self.usable(key, version)
        model = _model_of(self.weights_of(manifest), manifest)
        return Checkpoint(model, manifest, self._atlas(manifest))

    def _atlas(self, manifest: Manifest) -> Atlas | None:
        data = self.atlas_of(manifest)
        if data is None or manifest.atlas is None:
            return None
        try:
            return atlas_file.from_bytes(data, manifest.atlas)
        except CheckpointRejected as error:
            raise CheckpointRejected(f"{_name(manifest)}: {error}") from error


def stores_of(data: DataSettings) -> tuple[CheckpointStore, ...]:
    """Where checkpoints are looked for, in this order: one's own, then the shipped ones."""
    return CheckpointStore(data.checkpoints_dir), CheckpointStore(data.shipped_dir)


def load_serving(data: DataSettings, key: str) -> Checkpoint:
    """What serves a key: its own checkpoint, else the default one.

    One that is torn or for color is passed over, as a reconstructor does. Raises CheckpointError:
    of the first one that was, where nothing else is there.
    """
    passed_over: CheckpointError | None = None
    for name in (key, DEFAULT_KEY):
        for store in stores_of(data):
            try:
                if store.current_version(name) is not None:
                    found = store.load_current(name)
                    require_gray(found.manifest)
                    return found
            except CheckpointUnreadable:  # to train or measure another one instead would be worse
                raise
            except CheckpointError as error:
                log.warning("passed over: %s", error)
                passed_over = passed_over or error
    raise passed_over or CheckpointNotFound(
        f"there is no checkpoint of {key!r}, and no default one"
    )


def require_gray(manifest: Manifest) -> None:
    """Of what is to rebuild sessions and recordings. Raises CheckpointRejected."""
    if manifest.model.color_channels != 1:
        raise CheckpointRejected(f"{_name(manifest)} is for frames in color, these are gray")


def _model_of(weights: bytes, manifest: Manifest) -> SparsePixelTransformer:
    name = _name(manifest)
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


def _card(atlas: Atlas, data: bytes) -> AtlasCard:
    return AtlasCard(
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        pictures=len(atlas),
        width=atlas.width,
        height=atlas.height,
        layout=atlas.layout,
        camera=atlas.camera,
    )


def _name(manifest: Manifest) -> str:
    return f"{manifest.checkpoint_key}/{manifest.model_version}"


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
