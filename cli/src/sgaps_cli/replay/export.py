"""`sgaps export`: a recording as a video, rebuilt by a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from sgaps.checkpoints import UNTRAINED
from sgaps.errors import RecordingCorrupt
from sgaps.model import prepare_cpu
from sgaps.sampling.footprints import mosaic
from sgaps.settings import Settings
from sgaps_cli.replay.errors import ReplayError
from sgaps_cli.replay.library import Library, Recording, Reel, playing_times
from sgaps_cli.replay.models import Choice, Loaded, Models, default_pair
from sgaps_cli.replay.rebuild import rebuild, take_shot, true_picture

SUFFIX = ".mp4"
TICK_SECS = Fraction(1, 90_000)
X264_OPTIONS = {"crf": "18", "preset": "medium"}
"""Hardly to be told from what was rebuilt."""
NAMED = 5
"""Of what there is, so many are told to who asks for what is not."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be exported, and how."""

    recording: str | None
    """KEY/SESSION; None: the newest."""
    checkpoint: str | None
    """KEY/VERSION, or `untrained` for the interpolation; None: what serves the recording's key."""
    out: Path | None
    """None: SESSION.mp4, here."""
    beside: bool
    """The samples on the left, and on the right the true frames of a recording that has all."""


def export(folder: Path, wanted: Wanted, settings: Settings) -> Path:
    """Write the video; where it is. Raises SgapsError."""
    library, models = Library(folder, sentinel=settings.sentinel_value), Models(settings)
    try:
        recording = _recording(library.scan(), wanted.recording, folder)
        out = _free(wanted.out or Path(f"{recording.session}{SUFFIX}"))
        checkpoint_id = _checkpoint_id(models.scan(), wanted.checkpoint, recording.key)
        reel, loaded = library.reel(recording.recording_id), models.load(checkpoint_id)
        prepare_cpu(settings.reconstructor.cpu_threads)
        film = Film(library, reel, loaded, settings, beside=wanted.beside)
        if recording.damaged:
            print(
                f"left out: segments that cannot be read ({recording.damaged}); save what is left "
                f"of them: sgaps recordings repair --root {folder}",
                file=sys.stderr,
            )
        _write(out, film)
    except RecordingCorrupt as error:
        cure = f"sgaps recordings repair --root {folder}"
        raise ReplayError(f"{error}; save what is left of it: {cure}") from error
    finally:
        library.close()
    return out


class Film:
    """The frames of a recording from which something can be rebuilt."""

    def __init__(
        self, library: Library, reel: Reel, loaded: Loaded, settings: Settings, *, beside: bool
    ) -> None:
        """Raises ReplayError where there are none."""
        self._library, self._reel, self._loaded = library, reel, loaded
        self._settings = settings
        self.positions = np.flatnonzero(reel.has_samples | reel.has_keyframe).tolist()
        if not self.positions:
            raise ReplayError(
                f"{reel.recording.recording_id} has neither samples nor true frames: name another "
                "one, as `sgaps recordings list` has them"
            )
        self._with_samples = beside
        self._with_truth = beside and bool(reel.has_keyframe[self.positions].all())

    @property
    def times_secs(self) -> list[float]:
        """(F,): when each is shown, at the recorded rate."""
        received_at_secs = self._reel.received_at_secs[self.positions]
        return playing_times(received_at_secs, 1 / self._settings.target_fps)

    @property
    def told(self) -> str:
        """What it is of, and by what."""
        return f"{self._reel.recording.recording_id} by {self._loaded.version}"

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """(H, W) each. Raises ReplayError, RecordingError."""
        settings = self._settings
        history_frames = self._loaded.settings.history_frames
        for position in self.positions:
            shot = take_shot(
                self._library, self._reel, position, settings, history_frames=history_frames
            )
            rebuilt = rebuild(shot, self._loaded, sentinel=settings.sentinel_value)
            size = shot.frame.width, shot.frame.height
            left = [mosaic(shot.samples, *size)] if self._with_samples else []
            right = [true_picture(shot.frame)] if self._with_truth else []
            yield np.hstack([*left, rebuilt.image, *right])


def _recording(found: Sequence[Recording], name: str | None, folder: Path) -> Recording:
    """The one of this name, else the newest. Raises ReplayError."""
    readable = [one for one in found if one.segments]
    if name is None and readable:
        return readable[0]
    for one in found:
        if one.recording_id == name:
            return one
    named = [one.recording_id for one in readable[:NAMED]]
    known = f"there are {', '.join(named)}" if named else "there is none"
    more = f" and {len(readable) - NAMED} more" if len(readable) > NAMED else ""
    raise ReplayError(
        f"no recording {name or ''} in {folder}: {known}{more}; `sgaps recordings list` has "
        "KEY and SESSION of all"
    )


def _checkpoint_id(choices: Sequence[Choice], name: str | None, key: str) -> str:
    """One's own before a shipped one of the same name. Raises ReplayError."""
    if name is None:
        serving, _ = default_pair(choices, key)
        return serving
    if name == UNTRAINED:
        return UNTRAINED
    for choice in choices:
        if f"{choice.key}/{choice.version}" == name:
            return choice.checkpoint_id
    named = [f"{choice.key}/{choice.version}" for choice in choices if choice.key]
    known = ", ".join([*named[:NAMED], UNTRAINED])
    raise ReplayError(f"no checkpoint {name}: there are {known}; `sgaps checkpoints list` has all")


def _free(out: Path) -> Path:
    """Raises ReplayError where there is something else, or no video can be."""
    if out.suffix.lower() != SUFFIX:
        raise ReplayError(f"{out}: a video ends in {SUFFIX}: --out clip{SUFFIX}")
    if out.exists():
        raise ReplayError(f"{out} is there already: delete it, or name another with --out")
    if not out.absolute().parent.is_dir():
        raise ReplayError(f"there is no folder {out.absolute().parent}: make it first")
    return out


def _write(out: Path, film: Film) -> None:
    """Whole or not at all. Raises ReplayError where it cannot be written."""
    part = out.with_name(f"{out.name}.part")
    console = Console(stderr=True)
    try:
        with av.open(str(part.absolute()), "w", format=SUFFIX.removeprefix(".")) as container:
            pictures = track(
                film.pictures(),
                film.told,
                len(film.positions),
                console=console,
                disable=not console.is_terminal,
            )
            _encode(container, pictures, film.times_secs)
        part.rename(out)
    except (OSError, av.error.FFmpegError) as error:  # x264 takes no picture 50,000 pixels wide
        raise ReplayError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _encode(
    container: av.container.OutputContainer,
    pictures: Iterable[NDArray[np.uint8]],
    times_secs: Sequence[float],
) -> None:
    """H.264, which browsers play; in the size of the first picture, its sides made even."""
    stream = container.add_stream("libx264", options=X264_OPTIONS)
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TICK_SECS
    ticks = -1
    for picture, at_secs in zip(pictures, times_secs, strict=True):
        if ticks < 0:
            stream.height, stream.width = (side + side % 2 for side in picture.shape)
        ticks = max(ticks + 1, round(at_secs / TICK_SECS))  # no two at once: a burst is shown too
        frame = av.VideoFrame.from_ndarray(_sized(picture, stream), format="gray")
        frame.pts, frame.time_base = ticks, TICK_SECS
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _sized(picture: NDArray[np.uint8], stream: av.VideoStream) -> NDArray[np.uint8]:
    """A session may come back in another size; an odd side gets its last pixels twice."""
    height, width = picture.shape
    even = np.pad(picture, ((0, height % 2), (0, width % 2)), mode="edge")
    if even.shape == (stream.height, stream.width):
        return even
    size = stream.width, stream.height
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.uint8)
