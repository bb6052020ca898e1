"""The data folder of a `sgaps up`, which has it alone, and says there where it can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from sgaps.errors import SgapsError
from sgaps.locks import is_locked, try_lock

DATA_DIR = Path("data")
"""Where logs and the broker's data are unless another folder is named."""
LOCK_FILE = "up.lock"
LOGS_NAME = "logs"


class FolderTaken(SgapsError):
    """The folder is another one's, or cannot be used."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where a `sgaps up` can be reached on this machine."""

    port: int
    broker_url: str | None = None
    """Of the broker that it started; of any other one the address may hold a password."""


@contextmanager
def alone_in(folder: Path) -> Iterator[BinaryIO]:
    """No other `sgaps up` uses the folder until the end of the block. Raises FolderTaken.

    Two brokers would append to one file. What is yielded is for `tell`.
    """
    try:
        (folder / LOGS_NAME).mkdir(parents=True, exist_ok=True)
        lock_file = (folder / LOCK_FILE).open("ab")
    except OSError as error:
        raise FolderTaken(
            f"{error.filename}: {error.strerror}; choose another folder with --data-dir"
        ) from error
    with lock_file as lock:
        if not try_lock(lock.fileno()):
            raise FolderTaken(
                f"another sgaps up keeps its data in {folder.resolve()}; "
                "end that one, or choose another folder with --data-dir"
            )
        lock.truncate(0)  # of the one before
        yield lock


def tell(lock: BinaryIO, running: Running) -> None:
    """Write where it is, once, for who asks what runs here."""
    lock.write(msgspec.json.encode(running))
    lock.flush()


def running_in(folder: Path) -> Running | None:
    """The `sgaps up` that keeps its data in the folder; None where none does."""
    path = folder / LOCK_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running) if is_locked(path) else None
    except (OSError, msgspec.DecodeError):
        return None
