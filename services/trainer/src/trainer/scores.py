"""How good rebuilt frames are, over sessions: frames of one session are no independent facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr, t
from skimage.metrics import structural_similarity

from sgaps.whole_frames import picture_psnr_db
from trainer.pictures import Picture

SSIM_SIDE_PX = 7
"""Of the window in which scikit-image compares."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Over sessions, with half of its 95 % interval (Student); None with one session."""

    value: float
    interval: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method over all sessions."""

    method: str
    samples: int
    """Per frame."""
    bytes_up: float | None
    """Per frame, from the client. None where it has nothing to send, or nobody could send it."""
    bytes_down: float | None
    """Per frame, to the client: where to look next."""
    psnr_db: Mean
    ssim: Mean | None
    """None where all frames were too small for it."""
    st_lpips: Mean | None
    """Of some of the frames; lower is better. None where none was measured."""
    frames: int
    sessions: int


class Scores:
    """Of one method: gathered frame by frame."""

    def __init__(self, method: str, *, samples: int) -> None:
        self.method = method
        self.samples = samples
        self._bytes: list[tuple[int, int]] = []
        self._psnr_db: dict[str, list[float]] = defaultdict(list)
        self._ssim: dict[str, list[float]] = defaultdict(list)
        self._st_lpips: dict[str, list[float]] = defaultdict(list)

    def add(self, session_id: str, frame: Picture, truth: Picture) -> None:
        """Two pictures (H, W)."""
        self._psnr_db[session_id].append(picture_psnr_db(frame, truth))
        if min(truth.shape) >= SSIM_SIDE_PX:
            similarity = structural_similarity(frame, truth, data_range=255)  # type: ignore[no-untyped-call]
            self._ssim[session_id].append(float(similarity))

    def add_st_lpips(self, session_id: str, distance: float) -> None:
        """Of one of the frames: it costs too much for each."""
        self._st_lpips[session_id].append(distance)

    def add_bytes(self, up: int, down: int) -> None:
        """What one of the frames takes on the wire."""
        self._bytes.append((up, down))

    def row(self) -> Row:
        up, down = np.mean(self._bytes, axis=0).tolist() if self._bytes else (None, None)
        return Row(
            method=self.method,
            samples=self.samples,
            bytes_up=up,
            bytes_down=down,
            psnr_db=mean_over(self.session_psnrs_db()),
            ssim=mean_over(_session_means(self._ssim)) if self._ssim else None,
            st_lpips=mean_over(_session_means(self._st_lpips)) if self._st_lpips else None,
            frames=sum(map(len, self._psnr_db.values())),
            sessions=len(self._psnr_db),
        )

    def session_psnrs_db(self) -> list[float]:
        """Mean of each session, in the order they were played."""
        return _session_means(self._psnr_db)


def _session_means(values: dict[str, list[float]]) -> list[float]:
    return [float(np.mean(of_session)) for of_session in values.values()]


def mean_over(values: Sequence[float]) -> Mean:
    """Mean of the sessions' means."""
    count, mean = len(values), float(np.mean(values))
    if count == 1:
        return Mean(value=mean, interval=None)
    spread = float(np.std(values, ddof=1) / np.sqrt(count))
    return Mean(value=mean, interval=float(t.ppf(0.975, count - 1)) * spread)


def gain_db(better: Scores, worse: Scores) -> Mean:
    """Paired by session: what one gains over the other."""
    pairs = zip(better.session_psnrs_db(), worse.session_psnrs_db(), strict=True)
    return mean_over([a - b for a, b in pairs])


def rank_correlation(importance: NDArray[np.float32], frame: Picture, truth: Picture) -> float:
    """Spearman's, of importance (gh, gw) and the squared error of a frame in those cells.

    0 where either is the same everywhere.
    """
    squared = np.square((frame.astype(np.float32) - truth) / 255)
    rows, columns = importance.shape
    cells = cv2.resize(squared, (columns, rows), interpolation=cv2.INTER_AREA)
    if not (np.ptp(importance) and np.ptp(cells)):
        return 0.0
    return float(spearmanr(importance.ravel(), cells.ravel()).statistic)
