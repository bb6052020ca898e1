"""Checkpoints on disk, as far as one can see without torch: versions, what they have, the pointer.

Layout: `<root>/<key>/<version>/model.safetensors`, beside it `manifest.json` and, of a level that
is known by heart, `atlas.safetensors`; and `<root>/<key>/current`, a file that holds the version in
force. Nothing below the root may be a link.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, get_args

from pydantic import ValidationError

from sgaps.durable import is_temporary, write_durably
from sgaps.errors import (
    CheckpointError,
    CheckpointNotFound,
    CheckpointRejected,
    CheckpointUnreadable,
)
from sgaps.locks import lock
from sgaps.manifest import Manifest
from sgaps.protocol.ids import is_valid_id
from sgaps.settings import InpaintingName

UNTRAINED = "untrained"
"""Model version of a model without a checkpoint: the pull-push prior."""
NOTHING = "none"
"""Model version while no reconstructor lives."""
METHODS = frozenset(get_args(InpaintingName))
"""Versions of reconstructors that are set to need no checkpoint, `reconstructor.method`."""
CHECKPOINTLESS = METHODS | {NOTHING, UNTRAINED}
"""Versions that stand for no checkpoint."""
WEIGHTS_NAME = "model.safetensors"
ATLAS_NAME = "atlas.safetensors"
MANIFEST_NAME = "manifest.json"
FILE_NAMES = (WEIGHTS_NAME, ATLAS_NAME, MANIFEST_NAME)
"""Of a version."""
POINTER_NAME = "current"
MAX_MANIFEST_BYTES = 1 << 22
MAX_POINTER_BYTES = 128
MAX_REASON_CHARS = 500
_DELETED_SUFFIX = ".deleted"
_ABANDONED_SECS = 86400.0
_BY_A_LINK = (errno.ELOOP, errno.ENOTDIR)
"""What opening a link says where none may be."""
DEFAULT_KEY = "default"
"""The key whose checkpoint serves every key that has none of its own."""

Stamps: TypeAlias = tuple[tuple[int, int] | None, ...]
"""(mtime in ns, size in bytes) of each file of a version, None where there is none."""


class CheckpointDirectory:
    """Reads what is published under a root; nothing here opens weights."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def all_keys(self) -> list[str]:
        """Keys that have a current checkpoint, or a folder that hides it: who reads it hears why.

        Raises CheckpointUnreadable for a root that is there and cannot be listed.
        """
        # Not by glob(), to which a folder that it may not read is an empty one.
        try:
            names = [folder.name for folder in self.root.iterdir() if is_valid_id(folder.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointUnreadable(f"{self.root} cannot be listed: {error}") from error
        return sorted(name for name in names if _may_be_there(self.root / name / POINTER_NAME))

    def published_keys(self) -> list[str]:
        """Keys that have a version, though none may serve."""
        names = {m.parents[1].name for m in self.root.glob(f"*/v*/{MANIFEST_NAME}")}
        return sorted(filter(is_valid_id, names))

    def versions(self, key: str) -> list[str]:
        """Versions of a key, oldest first."""
        found = (m.parent.name for m in self.key_dir(key).glob(f"v*/{MANIFEST_NAME}"))
        legal = (name for name in found if is_valid_id(name))
        return sorted(legal, key=lambda version: (version_number(version), version))

    def current_version(self, key: str) -> str | None:
        """The version in force; None where the key has none. Raises CheckpointRejected."""
        self.key_dir(key)
        try:
            version = self._read([key, POINTER_NAME], MAX_POINTER_BYTES).decode("ascii").strip()
        except CheckpointNotFound:
            return None
        except UnicodeDecodeError as error:
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
            reasons = str(error)[:MAX_REASON_CHARS]
            raise CheckpointRejected(f"{key}/{version}: bad manifest: {reasons}") from error
        if (manifest.checkpoint_key, manifest.model_version) != (key, version):
            raise CheckpointRejected(f"{key}/{version}: its manifest is another checkpoint's")
        return manifest

    def usable(self, key: str, version: str) -> Manifest:
        """A manifest of what may serve. Raises CheckpointError."""
        manifest = self.manifest(key, version)
        if manifest.metrics.gain_db < 0:
            raise CheckpointRejected(f"{key}/{version} is worse than what it would replace")
        return manifest

    def read_file(self, key: str, version: str, name: str, max_bytes: int) -> bytes:
        """A file of a version, not larger than it should be. Raises CheckpointError."""
        if not is_valid_id(version):
            raise CheckpointRejected(f"{version!r} is no version")
        self.key_dir(key)
        return self._read([key, version, name], max_bytes)

    def stamps(self, key: str, version: str) -> Stamps:
        """Of a version's files, by which one sees that they changed. Raises CheckpointRejected."""
        folder = self.key_dir(key) / version
        return tuple(map(_stamp, (folder / name for name in FILE_NAMES)))

    def weights_of(self, manifest: Manifest) -> bytes:
        """What its manifest says. Raises CheckpointError."""
        return self._whole(manifest, WEIGHTS_NAME, manifest.weights_bytes, manifest.weights_sha256)

    def atlas_of(self, manifest: Manifest) -> bytes | None:
        """The same, where there is one."""
        card = manifest.atlas
        if card is None:
            return None
        return self._whole(manifest, ATLAS_NAME, card.bytes, card.sha256)

    def _whole(self, manifest: Manifest, name: str, size_bytes: int, digest: str) -> bytes:
        key, version = manifest.checkpoint_key, manifest.model_version
        data = self.read_file(key, version, name, size_bytes)
        if len(data) != size_bytes or hashlib.sha256(data).hexdigest() != digest:
            raise CheckpointRejected(f"{key}/{version}: {name} is torn or not its own")
        return data

    def _read(self, steps: list[str], max_bytes: int) -> bytes:
        """A plain file below the root. What is checked is what was opened: nobody can swap it."""
        name = "/".join(steps)
        try:
            descriptor = _open_below(self.root, steps)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
                    raise CheckpointRejected(
                        f"{name} is no plain file of {max_bytes} bytes at most"
                    )
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return file.read(max_bytes)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise CheckpointNotFound(f"there is no {name}") from error
        except OSError as error:
            refusal = CheckpointRejected if error.errno in _BY_A_LINK else CheckpointUnreadable
            raise refusal(f"{name} cannot be read: {error}") from error

    def promote(self, key: str, version: str) -> None:
        """Put a published version in force. Raises CheckpointError."""
        with self._alone(key):
            self.manifest(key, version)
            try:
                write_durably(self.key_dir(key) / POINTER_NAME, version.encode())
            except OSError as error:
                raise CheckpointError(f"{key}/{version} is not put in force: {error}") from error

    def prune(self, key: str, keep: int) -> list[str]:
        """Delete all versions but the newest `keep`, the one in force and its parent; which ones.

        And what killed processes left of others. Raises CheckpointError: at once, with nothing
        deleted, where none is known to be in force; in the end, if some could not be deleted.
        """
        with self._alone(key):
            current = self.current(key)
            if current is None:
                raise CheckpointNotFound(f"no checkpoint of {key!r} is in force in {self.root}")
            versions, folder = self.versions(key), self.key_dir(key)
            kept = {*versions[-keep:], current.model_version, current.parent}
            old = [version for version in versions if version not in kept]
            unfinished = [*folder.glob(".v*"), *filter(is_temporary, folder.glob(".*"))]
            doomed = [left for left in unfinished if _is_left_over(left)]
            doomed += [folder / version for version in old]
            if errors := [error for path in doomed if (error := _delete(path))]:
                raise CheckpointUnreadable(f"{key}: not all could be deleted: {errors[0]}")
        return old

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """While nobody else promotes or prunes: what one puts in force the other could delete."""
        try:
            folder = os.open(self.key_dir(key), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError as error:
            raise CheckpointNotFound(f"no checkpoint of {key!r} is in {self.root}") from error
        except OSError as error:
            raise CheckpointUnreadable(f"{key} cannot be opened: {error}") from error
        try:
            lock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)  # and so unlocked

    def key_dir(self, key: str) -> Path:
        """Raises CheckpointRejected for a key that is no identifier, or whose folder is a link."""
        if not is_valid_id(key):
            raise CheckpointRejected(f"{key!r} is no checkpoint key")
        folder = self.root / key
        if folder.is_symlink():
            raise CheckpointRejected(f"the folder of {key} is a link")
        return folder


def _stamp(path: Path) -> tuple[int, int] | None:
    """(mtime in ns, size in bytes); None where nothing is to be seen."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _may_be_there(path: Path) -> bool:
    """False only where it is known not to be. A link to nothing is there: it cannot be read."""
    try:
        path.lstat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    return True


def _is_left_over(path: Path) -> bool:
    """Deleted by halves, or written by halves and for so long that nobody does it any more."""
    try:
        age_secs = time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return False
    return path.suffix == _DELETED_SUFFIX or age_secs > _ABANDONED_SECS


def _delete(path: Path) -> OSError | None:
    """What came in between, if anything did."""
    # Hidden first, at once: what is half deleted would be a torn checkpoint.
    name = path.name.removeprefix(".").removesuffix(_DELETED_SUFFIX)
    hidden = path.with_name(f".{name}{_DELETED_SUFFIX}")
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            path.rename(hidden)
            shutil.rmtree(hidden)
    except FileNotFoundError:
        return None  # somebody else was quicker
    except OSError as error:
        return error
    return None


def version_number(version: str) -> int:
    """7 of `v0007-1a2b3c4d`; 0 of what has no number."""
    number = version.removeprefix("v").split("-")[0]
    return int(number) if number.isdecimal() and number.isascii() else 0


def _open_below(root: Path, steps: list[str]) -> int:
    """Descriptor of what these steps lead to, if none is a link; a FIFO is not waited for."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in steps:
        try:
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    return at
