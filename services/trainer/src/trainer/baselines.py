"""What a model is measured against: interpolation, frames one has anyway, and an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from scipy.fft import dctn, idctn
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import QhullError

from trainer.pictures import Picture, Samples, gray, on_black

X264_FPS = 10
X264_LEAST_BYTES = 13
"""For each frame: x264 takes no less than 1,000 bits a second."""


def telea(samples: Samples, width: int, height: int, *, radius_px: int) -> Picture:
    """Telea (2004), by OpenCV, from the middle pixels of the samples."""
    sparse, known = on_black(samples, width, height)
    filled = cv2.inpaint(sparse, (~known).astype(np.uint8), radius_px, cv2.INPAINT_TELEA)
    return np.asarray(filled, dtype=np.uint8)


def linear(samples: Samples, width: int, height: int) -> Picture:
    """Linear on the Delaunay triangles of the samples; the nearest sample outside of them."""
    x, y = samples[:, 0] * width - 0.5, samples[:, 1] * height - 0.5
    at = np.column_stack([x, y])
    grid = np.meshgrid(np.arange(width), np.arange(height))
    outside = NearestNDInterpolator(at, samples[:, 2])(*grid)  # (H, W)
    try:
        inside = LinearNDInterpolator(at, samples[:, 2])(*grid)  # (H, W), NaN outside
    except QhullError:  # all lie on one line, as in a picture one pixel high
        return gray(outside)
    return gray(np.where(np.isnan(inside), outside, inside))


def dct_oracle(truth: Picture, count: int) -> Picture:
    """The `count` largest coefficients of the whole frame: no one who sees less knows them."""
    coefficients = dctn(truth.astype(np.float64) / 255, norm="ortho")
    smallest = np.partition(np.abs(coefficients).ravel(), -count)[-count]
    kept = np.where(np.abs(coefficients) >= smallest, coefficients, 0)
    return gray(idctn(kept, norm="ortho"))


def x264(truths: Sequence[Picture], bytes_per_frame: int) -> tuple[list[Picture], list[int]]:
    """H.264 of the whole frames in so many bytes each: what a stream without us would show.

    And the bytes of its packets, one for each frame: every frame comes out at once, as a game needs
    it. The first ones may take a second's bytes.
    """
    height, width = truths[0].shape
    encoder = x264_encoder(width, height, bytes_per_frame)
    decoder = av.CodecContext.create("h264", "r")
    frames = (*map(av_frame, truths), None)
    packets = [packet for frame in frames for packet in encoder.encode(frame)]
    shown = [_luma(frame) for packet in (*packets, None) for frame in decoder.decode(packet)]
    return shown, [packet.size for packet in packets]


def x264_encoder(width: int, height: int, bytes_per_frame: int) -> VideoCodecContext:
    """Gives a packet for every frame at once, of so many bytes over time."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "gray"
    encoder.time_base, encoder.framerate = Fraction(1, X264_FPS), Fraction(X264_FPS)
    kbit_per_sec = bytes_per_frame * 8 * X264_FPS / 1000
    encoder.bit_rate = round(kbit_per_sec * 1000)
    rate = f"vbv-maxrate={kbit_per_sec:.0f}:vbv-bufsize={kbit_per_sec:.0f}:keyint=infinite"
    encoder.options = {"preset": "medium", "tune": "zerolatency", "x264-params": rate}
    return encoder


def av_frame(picture: Picture) -> av.VideoFrame:
    """(H, W) as an encoder takes it."""
    return av.VideoFrame.from_ndarray(picture, format="gray")


def _luma(frame: av.VideoFrame) -> Picture:
    """(H, W), as it was encoded: a conversion to gray would stretch the range."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return np.array(rows[:, : frame.width])
