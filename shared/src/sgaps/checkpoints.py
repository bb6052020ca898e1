"""Checkpoints on disk, as far as one can see without torch: manifests, versions, the pointer.

Layout: `<root>/<key>/<version>/model.safetensors` and `manifest.json` beside it, and
`<root>/<key>/current`, a file that holds the version in force.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from sgaps.errors import CheckpointNotFound, CheckpointRejected
from sgaps.protocol.ids import is_valid_id
from sgaps.settings import ModelSettings, Section

UNTRAINED = "untrained"
"""Model version of a model without a checkpoint: the pull-push prior."""
WEIGHTS_NAME = "model.safetensors"
MANIFEST_NAME = "manifest.json"
POINTER_NAME = "current"
MAX_MANIFEST_BYTES = 1 << 20
DEFAULT_KEY = "default"
"""The key whose checkpoint serves every key that has none of its own."""


class Metrics(Section):
    """Measured on the same held-out sessions."""

    val_psnr_db: float
    champion_psnr_db: float
    """What served before."""


class DataCard(Section):
    """What a checkpoint was trained and validated on."""

    frames: int
    train_sessions: tuple[str, ...]
    val_sessions: tuple[str, ...]


class Manifest(Section):
    """All there is to know about a checkpoint but its weights."""

    schema_version: Literal[1] = 1
    checkpoint_key: str
    model_version: str
    created_at: str
    """UTC, ISO 8601."""
    weights_sha256: str
    weights_bytes: int
    model: ModelSettings
    metrics: Metrics
    parent: str | None
    data: DataCard
    training: dict[str, JsonValue]


class CheckpointDirectory:
    """Reads what is published under a root; nothing here opens weights."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def all_keys(self) -> list[str]:
        """Keys that have a current checkpoint."""
        names = (pointer.parent.name for pointer in self.root.glob(f"*/{POINTER_NAME}"))
        return sorted(name for name in names if is_valid_id(name))

    def versions(self, key: str) -> list[str]:
        """Versions of a key, oldest first."""
        found = (m.parent.name for m in self.key_dir(key).glob(f"v*/{MANIFEST_NAME}"))
        return sorted(found, key=lambda version: (version_number(version), version))

    def current_version(self, key: str) -> str | None:
        """The version in force; None where the key has none. Raises CheckpointRejected."""
        try:
            version = (self.key_dir(key) / POINTER_NAME).read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointRejected(f"{key}: its pointer cannot be read: {error}") from error
        if not is_valid_id(version):
            raise CheckpointRejected(f"{key}: its pointer names no version")
        return version

    def current(self, key: str) -> Manifest | None:
        """Manifest in force; None where the key has none. Raises CheckpointError."""
        version = self.current_version(key)
        return None if version is None else self.manifest(key, version)

    def manifest(self, key: str, version: str) -> Manifest:
        """Raises CheckpointNotFound, and CheckpointRejected where it cannot be trusted."""
        data = self.read_file(key, version, MANIFEST_NAME, MAX_MANIFEST_BYTES)
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            raise CheckpointRejected(f"{key}/{version}: bad manifest: {error}") from error
        if (manifest.checkpoint_key, manifest.model_version) != (key, version):
            raise CheckpointRejected(f"{key}/{version}: its manifest is another checkpoint's")
        return manifest

    def read_file(self, key: str, version: str, name: str, max_bytes: int) -> bytes:
        """A file of a version: a plain file inside the root, not larger than it should be."""
        if not is_valid_id(version):
            raise CheckpointRejected(f"{version!r} is no version")
        path = self.key_dir(key) / version / name
        if not path.exists():
            raise CheckpointNotFound(f"{key}/{version}: there is no {name}")
        if path.resolve() != self.root.resolve() / key / version / name or not path.is_file():
            raise CheckpointRejected(f"{key}/{version}: {name} is no plain file of its folder")
        try:
            if path.stat().st_size > max_bytes:
                raise CheckpointRejected(f"{key}/{version}: {name} has over {max_bytes} bytes")
            return path.read_bytes()
        except OSError as error:
            raise CheckpointRejected(f"{key}/{version}: {name} cannot be read: {error}") from error

    def promote(self, key: str, version: str) -> None:
        """Put a published version in force. Raises CheckpointError."""
        self.manifest(key, version)
        write_durably(self.key_dir(key) / POINTER_NAME, version.encode())

    def key_dir(self, key: str) -> Path:
        """Raises CheckpointRejected for a key that is no identifier."""
        if not is_valid_id(key):
            raise CheckpointRejected(f"{key!r} is no checkpoint key")
        return self.root / key


def version_number(version: str) -> int:
    """7 of `v0007-1a2b3c4d`; 0 of what has no number."""
    number = version.removeprefix("v").split("-")[0]
    return int(number) if number.isdecimal() and number.isascii() else 0


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash it is the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
