"""A video file as frames, 10 per second of media time whatever its own rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from sgaps.errors import SourceError
from sgaps_client.sources.base import (
    FRAMES_PER_SEC,
    GameFrame,
    Gray,
    fit_size,
    gray_from_bgr,
    resize,
)
from sgaps_client.sources.containers import is_cut_off

log = logging.getLogger(__name__)

ROUNDING_SECS = 1e-6
MAX_STEP_SECS = 60.0
"""Of two pictures whose times are further apart the clock was set between them."""
MAX_UNDECODABLE = 1000
"""So many failures in a row are taken for the end of a file, which looks the same."""
SHORT_SECS = 1.0
"""By so much pictures may end before the file: a last one stays, or the sound goes on."""


class VideoSource:
    """One video file. It has no state vector."""

    state_dim = 0

    def __init__(self, path: Path, *, width: int | None = None) -> None:
        """Open the file. Raises SourceError where it is no video."""
        self.name = f"video/{path.stem}"
        self._path = path
        self._capture = _opened(path)
        self._own_rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        native = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if min(native) < 1 or not math.isfinite(self._own_rate) or self._own_rate <= 0:
            raise SourceError(f"{path} has no pictures or no frame rate; is it a video file?")
        self.width, self.height = fit_size(native, width=width)
        self._decoded = self._undecodable = 0

    def frames(self) -> Iterator[GameFrame]:
        """See Source; ends with the file, with SourceError where that is damaged or cut off.

        A picture that cannot be decoded is the one before it.
        """
        given = 0
        for image, gone_at_secs in self._pictures():
            while given / FRAMES_PER_SEC < gone_at_secs - ROUNDING_SECS:
                no_state = np.empty(0, dtype=np.float32)
                yield GameFrame(image=image, state=no_state)
                given += 1
        if given == 0:
            raise SourceError(f"{self._path}: no picture of it can be decoded")
        self._require_whole(given / FRAMES_PER_SEC)

    def _require_whole(self, end_secs: float) -> None:
        """Raises SourceError where pictures are missing, and warns where that may be.

        How many there are is an estimate in some containers, and how long they are in all of them:
        by that alone a file is not broken.
        """
        told = float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        told_secs = told / self._own_rate
        is_short = self._decoded < told
        if self._undecodable or (is_short and is_cut_off(self._path)):
            count = max(round(told), self._decoded + self._undecodable)
            raise SourceError(
                f"{self._path} is damaged or cut off: {self._decoded} of {count} pictures could be "
                "decoded; copy it again from where it is whole"
            )
        if is_short and end_secs < told_secs - SHORT_SECS:
            log.warning(
                "%s: its pictures end after %.1f of %.1f s; does it end there in a player, too?",
                self._path,
                end_secs,
                told_secs,
            )

    def close(self) -> None:
        self._capture.release()

    def _pictures(self) -> Iterator[tuple[Gray, float]]:
        """Every picture of the file and the media time in seconds at which the next replaces it.

        The last one stays as long as the one before it.
        """
        own_step_secs = 1 / self._own_rate
        shown, shown_at_secs, stays_secs = None, 0.0, own_step_secs
        for at_secs in carried_on(self._told_secs(), own_step_secs=own_step_secs):
            found, picture = self._capture.retrieve()
            if not found:
                self._undecodable += 1
                continue
            self._decoded += 1
            if shown is not None:
                yield shown, at_secs
                stays_secs = at_secs - shown_at_secs
            gray = gray_from_bgr(np.asarray(picture, dtype=np.uint8))
            shown, shown_at_secs = resize(gray, width=self.width, height=self.height), at_secs
        if shown is not None:
            yield shown, shown_at_secs + stays_secs

    def _told_secs(self) -> Iterator[float]:
        """When the picture begins that is to be retrieved next, as the file tells it; phones and
        recorded screens have no rate that one could rely on."""
        failed = 0
        while failed < MAX_UNDECODABLE:
            if not self._capture.grab():
                failed += 1
                continue
            self._undecodable += failed
            failed = 0
            yield float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000


def carried_on(told_secs: Iterable[float], *, own_step_secs: float) -> Iterator[float]:
    """When each picture begins, in seconds of one clock that never goes back, from what is told.

    A time of 0 or less is none. Two recordings joined in one file begin their times anew, and a
    camera whose clock is set leaps: where a time is missing, below the one before it, or more than
    MAX_STEP_SECS above, the picture begins one step of the file's own rate after the one before.
    """
    before_secs, offset_secs = -own_step_secs, 0.0
    for told in told_secs:
        next_secs = before_secs + own_step_secs
        now_secs = told if told > 0 else next_secs
        if not before_secs <= now_secs <= before_secs + MAX_STEP_SECS:
            offset_secs += next_secs - now_secs
        before_secs = now_secs
        yield now_secs + offset_secs


def _opened(path: Path) -> cv2.VideoCapture:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # OpenCV crashes on it
        raise SourceError(f"{path!r}: its name is not UTF-8; rename it") from error
    capture = cv2.VideoCapture(str(path.resolve()))  # of `12:30.mp4` FFmpeg takes 12 for a protocol
    if not capture.isOpened():
        raise SourceError(f"{path} cannot be opened as a video; check it with a player")
    return capture
