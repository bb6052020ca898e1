"""`sgaps capture` and `sgaps import`: whole frames into the layout the trainer reads."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice, takewhile
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from sgaps.ending import asked_or_insisted, end_by, end_signals
from sgaps.errors import DiskFull, RecordingError, SourceError
from sgaps.locks import try_lock
from sgaps.recording import RecordedFrame, SegmentWriter, next_segment_path, session_folder
from sgaps.recording.disk import ensure_free_space
from sgaps.recording.layout import part_paths, sealed_paths
from sgaps.recording.writer import growth_bytes
from sgaps.settings import Settings, load_settings
from sgaps_cli.play import MAX_SEED, key_of, require_no_seed_of_a_file
from sgaps_client.sources import GameFrame, Source, is_game, open_source, path_of, pictures_in

GAME_SESSIONS = 2
GAME_FRAMES = 600
CAPTURE = re.compile(r"capture-(\d+)-")
FRAMES_PER_SEGMENT = 600
BATCH_FRAMES = 50
FRAME_SECS = 0.1
PNG_COMPRESSION = 3


def capture_source(
    source_name: str,
    *,
    frames: int | None,
    sessions: int | None,
    out: Path | None,
    key: str | None,
    seed: int | None,
    width: int | None = None,
) -> int:
    """Capture `sessions` plays of `frames` frames, each with a seed of its own; of a file one, and
    by default all of it.

    Raises SourceError, RecordingError, SettingsError.
    """
    out = out or load_settings().data.recordings_dir
    key = key_of(source_name, key)
    if not is_game(source_name):
        if sessions not in {None, 1}:
            # What is held out of training would be what was trained on.
            raise SourceError(
                f"each session of {source_name} would be the same: leave out --sessions"
            )
        require_no_seed_of_a_file(source_name, seed)
        _record_file(source_name, out, key=key, width=width, frames=frames)
        return 0
    first = _next_seed(out / key) if seed is None else seed
    game = hashlib.sha256(os.fsencode(source_name)).hexdigest()[:6]
    seeds = range(first, first + (sessions or GAME_SESSIONS))
    plays = {session_folder(out, key, f"capture-{number}-{game}"): number for number in seeds}
    cure = "choose another --seed, or leave it out"
    with _new_folders(plays, cure):
        for folder, number in plays.items():
            opened = partial(open_source, source_name, width=width, seed=number)
            with _alone_in(folder, cure), closing(opened()) as source:
                record(source, out, key=key, session_id=folder.name, frames=frames or GAME_FRAMES)
    return 0


@contextmanager
def _new_folders(folders: Collection[Path], cure: str) -> Iterator[None]:
    """Of sessions that are about to be recorded: whoever looks for a seed meanwhile sees them.

    Raises RecordingError.
    """
    for folder in folders:
        _require_new(folder, cure)
    ours = [folder for folder in folders if not folder.exists()]  # another's has its lock
    try:
        for folder in folders:
            _make_folder(folder)
        yield
    finally:
        for folder in ours:
            with suppress(OSError):  # it stays where there is something in it
                folder.rmdir()
                folder.parent.rmdir()


@contextmanager
def _alone_in(folder: Path, cure: str) -> Iterator[None]:
    """While no other process records this session. Raises RecordingError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not try_lock(opened):
            raise RecordingError(f"{folder} is just being recorded; {cure}")
        _require_new(folder, cure)
        yield
    finally:
        os.close(opened)


def _require_new(folder: Path, cure: str) -> None:
    """A session is named after what it shows: the same would be held out of training, and trained
    on. Raises RecordingError.
    """
    if sealed_paths(folder) or part_paths(folder):
        raise RecordingError(f"{folder} has the same frames already; {cure}, or delete it before")


def _next_seed(of_key: Path) -> int:
    """Above those of all captures in the folder: of one seed they would be the same play, and what
    is held out of training what was trained on.
    """
    found = (CAPTURE.match(folder.name) for folder in of_key.glob("capture-*"))
    seeds = (int(name[1]) for name in found if name)
    # A folder that somebody made may have any number; no game takes one above 32 bits.
    return max((seed + 1 for seed in seeds if seed <= MAX_SEED), default=0)


def import_file(path: Path, *, out: Path | None, key: str | None, width: int | None) -> int:
    """Import all frames of a video file or folder of images.

    Raises SourceError, RecordingError, SettingsError.
    """
    out = out or load_settings().data.recordings_dir
    file = path_of(str(path)).absolute()  # of `doom/clip.mp4` the file is meant, not the game
    if not file.exists():
        raise SourceError(f"there is no {path}; give a video file or a folder of images")
    _record_file(str(file), out, key=key_of(str(file), key), width=width)
    return 0


def _record_file(
    path: str, out: Path, *, key: str, width: int | None, frames: int | None = None
) -> None:
    with closing(open_source(path, width=width)) as source:
        session_id = f"import-{_content_of(path_of(path))}"
        folder, cure = session_folder(out, key, session_id), "choose another --key"
        with _new_folders([folder], cure), _alone_in(folder, cure):
            record(source, out, key=key, session_id=session_id, frames=frames)


def _content_of(path: Path) -> str:
    """A short digest of a video, or of the pictures in a folder. Raises SourceError."""
    digest = hashlib.sha256()
    try:
        for file in pictures_in(path) if path.is_dir() else [path]:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise SourceError(f"{error.filename} cannot be read ({error.strerror})") from error
    return digest.hexdigest()[:12]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(
            f"{out} cannot be made a folder ({error.strerror}); choose another with --out"
        ) from error


def record(source: Source, out: Path, *, key: str, session_id: str, frames: int | None) -> None:
    """Record frames of a source as one session; where that is cut off, those before it are kept.

    Raises SourceError, RecordingError; SystemExit where a signal did it, KeyboardInterrupt where
    that was Ctrl-C.
    """
    console = Console(stderr=True)
    settings = load_settings()
    started_at_secs = time.time()
    shown = escape(f"{source.name} → {session_id}")
    recording = _Recording(out, settings, key=key, session_id=session_id)
    note = ", kept of what was cut off; delete them before it is done again"
    try:
        with _asked_to_end() as asked, closing(recording):
            wanted = takewhile(lambda _: not asked, islice(source.frames(), frames))
            for i, frame in enumerate(track(wanted, shown, frames, console=console)):
                recording.add(_whole_frame(i, frame, started_at_secs, settings.max_state_dim))
            if not asked:
                note = ""
    finally:
        if recording.sealed_frames or not note:
            told = f"{recording.sealed_frames} whole frames of {key} in {recording.folder}{note}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """For a loop to look at: empty until a signal, which the exit status tells in the end.

    What a handler raises would be lost where it comes in a callback of a weakref; that of Ctrl-C,
    which raises, stays.
    """
    asked: list[int] = []
    hear = asked_or_insisted(asked.append, end_by)
    numbers = [number for number in end_signals() if number != signal.SIGINT]
    before = {number: signal.signal(number, lambda n, _: hear(n)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        sys.exit(128 + asked[0])


class _Recording:
    """One session, on disk batch by batch. All methods raise RecordingError."""

    def __init__(self, out: Path, settings: Settings, *, key: str, session_id: str) -> None:
        self.folder = session_folder(out, key, session_id)
        _make_folder(self.folder)
        self.sealed_frames = 0
        self._out = out
        self._settings = settings
        self._key = key
        self._session_id = session_id
        self._pending: list[RecordedFrame] = []
        self._writer: SegmentWriter | None = None

    def add(self, frame: RecordedFrame) -> None:
        self._pending.append(frame)
        if len(self._pending) >= BATCH_FRAMES:
            self._write()

    def close(self) -> None:
        """Write and seal what there is; after a failed write, nothing."""
        try:
            if self._pending:
                self._write()
        finally:
            if self._writer:
                self._seal(self._writer)

    def _write(self) -> None:
        batch, self._pending = self._pending, []
        self._ensure_space(batch)
        writer = self._writer = self._writer or self._next_writer()
        with self._or_abandoned(writer):
            writer.append(batch)
            writer.sync()
        if writer.frame_count >= FRAMES_PER_SEGMENT:
            self._seal(writer)

    def _ensure_space(self, batch: list[RecordedFrame]) -> None:
        """As a recorder does, which would otherwise find no room on this disk afterwards."""
        growth = growth_bytes(
            samples=0,
            keyframe_bytes=sum(len(frame.keyframe) for frame in batch),
            frames=len(batch),
            segments=1,
            max_state_dim=self._settings.max_state_dim,
        )
        try:
            ensure_free_space(self.folder, self._settings.recorder.min_free_bytes + growth)
        except DiskFull as error:
            raise DiskFull(f"{error}; make room, or choose another disk with --out") from error

    def _seal(self, writer: SegmentWriter) -> None:
        with self._or_abandoned(writer):
            writer.seal()
        self._writer = None
        self.sealed_frames += writer.frame_count

    def _next_writer(self) -> SegmentWriter:
        return SegmentWriter(
            next_segment_path(self.folder),
            checkpoint_key=self._key,
            session_id=self._session_id,
            max_state_dim=self._settings.max_state_dim,
            sentinel=self._settings.sentinel_value,
        )

    @contextmanager
    def _or_abandoned(self, writer: SegmentWriter) -> Iterator[None]:
        """A writer that failed and is not abandoned crashes the interpreter later."""
        try:
            yield
        except (RecordingError, KeyboardInterrupt) as error:
            self._writer = None
            writer.abandon()
            raise RecordingError(
                f"{str(error) or f'cut off while {writer.part_path} was written'}; "
                f"once its disk takes writes again, sgaps recordings repair --root {self._out} "
                "saves what is there"
            ) from error


def _whole_frame(
    frame_id: int, frame: GameFrame, started_at_secs: float, max_state_dim: int
) -> RecordedFrame:
    _, png = cv2.imencode(".png", frame.image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    height, width = frame.image.shape
    at_secs = started_at_secs + frame_id * FRAME_SECS
    return RecordedFrame(
        frame_id=frame_id,
        coordinate_set_id=0,
        width=width,
        height=height,
        samples=np.empty((0, 4), np.float32),
        state=frame.state[:max_state_dim].astype(np.float32),
        client_time_secs=at_secs,
        received_at_secs=at_secs,
        keyframe_encoding="png",
        keyframe=png.tobytes(),
    )
