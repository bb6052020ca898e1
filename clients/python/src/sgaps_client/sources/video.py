"""A video file as frames, 10 per second of media time whatever its own rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
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

ROUNDING_SECS = 1e-6


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

    def frames(self) -> Iterator[GameFrame]:
        """See Source; ends with the file."""
        given = 0
        for image, gone_at_secs in self._pictures():
            while given / FRAMES_PER_SEC < gone_at_secs - ROUNDING_SECS:
                no_state = np.empty(0, dtype=np.float32)
                yield GameFrame(image=image, state=no_state)
                given += 1
        if given == 0:
            raise SourceError(f"{self._path}: no picture of it can be decoded")

    def close(self) -> None:
        self._capture.release()

    def _pictures(self) -> Iterator[tuple[Gray, float]]:
        """Every picture of the file and the media time in seconds at which the next replaces it.

        The last one stays as long as the one before it.
        """
        shown, shown_at_secs, stays_secs = None, 0.0, 1 / self._own_rate
        for count in itertools.count():
            found, picture = self._capture.read()
            at_secs = self._at_secs(count) if found else shown_at_secs + stays_secs
            if shown is not None:
                yield shown, at_secs
                stays_secs = at_secs - shown_at_secs
            if not found:
                return
            gray = gray_from_bgr(np.asarray(picture, dtype=np.uint8))
            shown, shown_at_secs = resize(gray, width=self.width, height=self.height), at_secs

    def _at_secs(self, count: int) -> float:
        """When the picture that was just read begins; phones and recorded screens have no rate that
        one could rely on. Where the file tells no times, by its rate."""
        told_secs = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        return told_secs if told_secs > 0 else count / self._own_rate


def _opened(path: Path) -> cv2.VideoCapture:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # OpenCV crashes on it
        raise SourceError(f"{path!r}: its name is not UTF-8; rename it") from error
    capture = cv2.VideoCapture(str(path.resolve()))  # of `12:30.mp4` FFmpeg takes 12 for a protocol
    if not capture.isOpened():
        raise SourceError(f"{path} cannot be opened as a video; check it with a player")
    return capture
