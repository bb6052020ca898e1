"""One run of a key at a time: two would share a file, and the later one hide what is better."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgaps.checkpoints import CheckpointDirectory
from sgaps.errors import CheckpointError, SgapsError
from sgaps.locks import try_lock

LOCK_NAME = ".training.lock"


class BeingTrained(SgapsError):
    """Another process trains the key."""


@contextmanager
def alone_with(checkpoint_key: str, checkpoints_dir: Path) -> Iterator[None]:
    """While this lasts no other run of the key begins. Raises BeingTrained, CheckpointError."""
    folder = CheckpointDirectory(checkpoints_dir).key_dir(checkpoint_key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise CheckpointError(f"nothing can be written to {folder}: {error}") from error
    try:
        if not try_lock(descriptor):
            raise BeingTrained(
                f"another run trains {checkpoint_key!r} in {checkpoints_dir}, by hand or of a "
                "trainer service: wait for its end, or stop it"
            )
        yield
    finally:
        os.close(descriptor)  # and so unlocked
