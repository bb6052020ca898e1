"""All that the page may ask for. For one thread: it reads files and runs models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

import numpy as np
from cachetools import LRUCache, cachedmethod
from pydantic import ValidationError

from sgaps.errors import RecordingCorrupt, RecordingError
from sgaps.model import prepare_cpu
from sgaps.protocol.views import encode_view
from sgaps.settings import Settings
from sgaps_cli.recordings_folder import session_folders
from sgaps_cli.replay.errors import ReplayError
from sgaps_cli.replay.library import Library, Recording, Reel, playing_times, recording_of
from sgaps_cli.replay.models import Loaded, Models, default_pair
from sgaps_cli.replay.rebuild import Shot, measured_psnr_db, rebuild, take_shot, view_of

KEPT_BYTES = 64 << 20
"""Of rebuilt frames: people go back and forth."""

JsonObject: TypeAlias = dict[str, object]


class Desk:
    """Looks up everything in what it has listed: no path comes from outside."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._settings = settings
        self._library = Library(folder, sentinel=settings.sentinel_value)
        self._models = Models(settings)
        self._views: LRUCache[object, bytes] = LRUCache(KEPT_BYTES, getsizeof=len)
        self._has_looked = False

    def prepare(self) -> None:
        """To be called in the thread that will ask."""
        prepare_cpu(self._settings.reconstructor.cpu_threads)

    def close(self) -> None:
        self._library.close()

    def catalog(self) -> JsonObject:
        """What there is now: recordings, the newest first, and checkpoints."""
        recordings, choices = self._library.scan(), self._models.scan()
        self._views.clear()
        self._has_looked = True
        return {
            "folder": str(self._library.folder),
            "recordings": [
                {**_told(one), "pair": default_pair(choices, one.key)} for one in recordings
            ],
            "checkpoints": [asdict(choice) for choice in choices],
        }

    def recording(self, recording_id: str) -> JsonObject:
        """Its frames by position. Raises NotListed, ReplayError."""
        with self._explained():
            reel = self._library.reel(recording_id)
        return {
            "frame_ids": reel.frame_ids.tolist(),
            "times_secs": playing_times(reel.received_at_secs, 1 / self._settings.target_fps),
            "keyframes": np.flatnonzero(reel.has_keyframe).tolist(),
            "unsampled": np.flatnonzero(~reel.has_samples).tolist(),
        }

    @cachedmethod(attrgetter("_views"))
    def view(self, recording_id: str, position: int, checkpoint_id: str) -> bytes:
        """A frame as a checkpoint rebuilds it. Raises NotListed, ReplayError, CheckpointError."""
        sentinel = self._settings.sentinel_value
        with self._explained():
            reel, loaded, shot = self._shot(recording_id, position, checkpoint_id)
            started_at_secs = time.perf_counter()
            rebuilt = rebuild(shot, loaded, sentinel=sentinel)
            view = view_of(
                shot,
                rebuilt,
                version=loaded.version,
                session_id=reel.recording.session,
                sentinel=sentinel,
                took_secs=time.perf_counter() - started_at_secs,
            )
        return encode_view(view)

    def score(self, recording_id: str, position: int, checkpoint_id: str) -> JsonObject:
        """PSNR where a true frame was recorded. Raises like `view`."""
        with self._explained():
            _, loaded, shot = self._shot(recording_id, position, checkpoint_id)
            rebuilt = rebuild(shot, loaded, sentinel=self._settings.sentinel_value)
            return {"psnr_db": measured_psnr_db(shot, rebuilt)}

    def _shot(
        self, recording_id: str, position: int, checkpoint_id: str
    ) -> tuple[Reel, Loaded, Shot]:
        reel, loaded = self._library.reel(recording_id), self._models.load(checkpoint_id)
        history_frames = loaded.settings.history_frames
        shot = take_shot(
            self._library, reel, position, self._settings, history_frames=history_frames
        )
        return reel, loaded, shot

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what to do about a recording that is not as it should be."""
        if not self._has_looked:  # a page that was open before this server was started
            self.catalog()
        try:
            yield
        except RecordingCorrupt as error:
            cure = f"sgaps recordings repair --root {self._library.folder}"
            raise ReplayError(f"{error}; save what is left of it: {cure}") from error
        except RecordingError as error:
            raise ReplayError(f"{error}; load the page again, it may have gone") from error
        except ValidationError as error:
            raise ReplayError(f"no gateway took this frame: {error}; go on to the next") from error


def _told(recording: Recording) -> JsonObject:
    return {
        "recording_id": recording.recording_id,
        "key": recording.key,
        "session": recording.session,
        "frames": recording.frame_count,
        "keyframes": recording.keyframe_count,
        "size_bytes": recording.size_bytes,
        "recorded_at_secs": recording.modified_at_secs,
        "damaged": recording.damaged,
    }


def require_recordings(folder: Path) -> None:
    """Raises ReplayError where there is nothing to replay."""
    # Not Library.scan: one that can be replayed is enough, and the page lists them all.
    is_damaged = False
    for one in map(recording_of, session_folders(folder)):
        if one.segments:
            return
        is_damaged |= bool(one.damaged)
    if is_damaged:
        raise ReplayError(
            f"no segment in {folder} can be read; save what is left of them: "
            f"sgaps recordings repair --root {folder}"
        )
    raise ReplayError(
        f"there is no sealed recording in {folder}: one is sealed when its session ends; "
        f"or make one: sgaps capture doom/my_way_home --frames 100 --out {folder}"
    )
