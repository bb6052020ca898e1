"""Runs that were killed: what wants more memory than there is would be killed again, for ever.

`<checkpoints>/<key>/attempts.json` is there while a run goes on, and outlives only one that was
killed before it was told to stop. The next one that comes to an end, however it does, takes it
away.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from sgaps.checkpoints import CheckpointDirectory
from sgaps.durable import write_durably
from sgaps.recording import SegmentInfo, SegmentName, segment_name
from sgaps.settings import DataSettings

log = logging.getLogger(__name__)

MOST_KILLED = 3
"""One may be killed with its machine, two by an impatient restart."""
ATTEMPTS_NAME = "attempts.json"


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of a key that began one after the other, none of which came to its end."""

    begun: int = 0
    segments: tuple[SegmentName, ...] = ()
    """What the newest one had."""

    @property
    def given_up(self) -> tuple[SegmentName, ...]:
        """What no run is begun for any more: with something new one is."""
        return self.segments if self.begun >= MOST_KILLED else ()


def attempts_at(checkpoint_key: str, checkpoints_dir: Path) -> Attempts:
    """Raises CheckpointError: the key is none."""
    path = _file(checkpoint_key, checkpoints_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Attempts)
    except FileNotFoundError:
        return Attempts()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("nobody knows how many runs of %s were killed: %s", checkpoint_key, error)
        return Attempts()


@contextmanager
def attempt(
    checkpoint_key: str,
    segments: Sequence[SegmentInfo],
    data: DataSettings,
    *,
    stop: threading.Event,
) -> Iterator[None]:
    """A run of a key, counted until it is left. Where nothing can be written it goes uncounted, as
    does one that was told to stop before it began."""
    path = _file(checkpoint_key, data.checkpoints_dir)
    names = tuple(segment_name(segment, data.recordings_dir) for segment in segments)
    begun = attempts_at(checkpoint_key, data.checkpoints_dir).begun + 1
    try:
        write_durably(path, msgspec.json.encode(Attempts(begun=begun, segments=names)))
    except OSError as error:
        log.warning("if this run is killed, nobody will know: %s", error)
    if stop.is_set():  # who sets it forgives what was there then
        forgive(checkpoint_key, data.checkpoints_dir)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def forgive(checkpoint_key: str, checkpoints_dir: Path) -> None:
    """Count a run that goes on as none that is killed, whatever ends it. Raises CheckpointError.

    What cannot be removed was not written either, and is counted by nobody.
    """
    with suppress(OSError):
        _file(checkpoint_key, checkpoints_dir).unlink(missing_ok=True)


def _file(checkpoint_key: str, checkpoints_dir: Path) -> Path:
    return CheckpointDirectory(checkpoints_dir).key_dir(checkpoint_key) / ATTEMPTS_NAME
