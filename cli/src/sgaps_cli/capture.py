"""`sgaps capture` and `sgaps import`: whole frames into the layout the trainer reads."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from sgaps.errors import RecordingError, SourceError
from sgaps.recording import RecordedFrame, SegmentWriter, next_segment_path, session_folder
from sgaps.settings import load_settings
from sgaps_cli.play import key_of
from sgaps_client.sources import GameFrame, Source, open_source

FRAMES_PER_SEGMENT = 600
BATCH_FRAMES = 50
FRAME_SECS = 0.1
PNG_COMPRESSION = 3


def capture_source(
    source_name: str, *, frames: int, sessions: int, out: Path, key: str | None, seed: int
) -> int:
    """Capture `sessions` plays of `frames` frames, each with a seed of its own.

    Raises SourceError, RecordingError.
    """
    key = key_of(source_name, key)
    _make_folder(out)
    for number in range(sessions):
        source = open_source(source_name, seed=seed + number)
        session_id = f"capture-{seed + number}-{secrets.token_hex(3)}"
        with closing(source):
            record(source, out, key=key, session_id=session_id, frames=frames)
    return 0


def import_file(path: Path, *, out: Path, key: str | None, width: int | None) -> int:
    """Import all frames of a video file or folder of images. Raises SourceError, RecordingError."""
    if not path.exists():
        raise SourceError(f"there is no {path}; give a video file or a folder of images")
    path = path.resolve()  # of `doom/clip.mp4` the file is meant, not the game
    key = key_of(path.stem, key)
    source = open_source(str(path), width=width)
    session_id = f"import-{secrets.token_hex(6)}"
    with closing(source):
        _make_folder(out)
        record(source, out, key=key, session_id=session_id, frames=None)
    return 0


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(
            f"{out} cannot be made a folder ({error.strerror}); choose another with --out"
        ) from error


def record(source: Source, out: Path, *, key: str, session_id: str, frames: int | None) -> None:
    """Record frames of a source as one session. Raises SourceError, RecordingError."""
    console = Console(stderr=True)
    settings = load_settings()
    started_at_secs = time.time()
    images = track(
        islice(source.frames(), frames), f"{source.name} → {session_id}", frames, console=console
    )
    recorded = (
        _whole_frame(i, frame, started_at_secs, settings.max_state_dim)
        for i, frame in enumerate(images)
    )
    count, folder = 0, session_folder(out, key, session_id)
    for segment in _chunks(recorded, FRAMES_PER_SEGMENT):
        writer = SegmentWriter(
            next_segment_path(folder),
            checkpoint_key=key,
            session_id=session_id,
            max_state_dim=settings.max_state_dim,
            sentinel=settings.sentinel_value,
        )
        for batch in _chunks(iter(segment), BATCH_FRAMES):
            writer.append(batch)
            writer.sync()
        writer.seal()
        count += len(segment)
    console.print(f"{count} whole frames of {key} in {folder}", highlight=False)


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


def _chunks(frames: Iterator[RecordedFrame], size: int) -> Iterator[list[RecordedFrame]]:
    while chunk := list(islice(frames, size)):
        yield chunk
