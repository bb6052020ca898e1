"""What a model is measured against: interpolation, frames one has anyway, and an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av import Packet, VideoStream
from av.video.codeccontext import VideoCodecContext
from scipy.fft import dctn, idctn
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import QhullError

from sgaps.sampling.footprints import Samples
from trainer.pictures import Picture, gray

X264_FPS = 10
X264_LEAST_BYTES = 13
"""For each frame: x264 takes no less than 1,000 bits a second."""
X264_RATES = (1 / 4, 4)
"""Of the bytes that each frame is to have: between them lies the rate that gives as many."""
X264_ENCODES = 9
"""To find it: each halves what is left between them, to less than a hundredth."""


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


def x264(truths: Sequence[Picture], bytes_per_frame: float) -> tuple[list[Picture], list[int]]:
    """H.264 of two whole frames or more: what a stream without us would show.

    And the bytes of its packets, one for each frame: every frame comes out at once, as a game needs
    it. The first may take a second's bytes, which the next ones then lack: the rate is the one by
    which those after it have so many in the mean, or come nearest to it.
    """
    least, most = (max(X264_LEAST_BYTES, share * bytes_per_frame) for share in X264_RATES)
    encoded: list[list[Packet[VideoStream]]] = []
    strays: list[float] = []
    for _ in range(X264_ENCODES):
        rate = (least + most) / 2
        encoded.append(_encoded(truths, rate))
        strays.append(float(np.mean([packet.size for packet in encoded[-1][1:]])) - bytes_per_frame)
        least, most = (rate, most) if strays[-1] < 0 else (least, rate)
    packets = encoded[int(np.abs(strays).argmin())]
    decoder = av.CodecContext.create("h264", "r")
    shown = [_luma(frame) for packet in (*packets, None) for frame in decoder.decode(packet)]
    return shown, [packet.size for packet in packets]


def _encoded(truths: Sequence[Picture], bytes_per_frame: float) -> list[Packet[VideoStream]]:
    height, width = truths[0].shape
    encoder = x264_encoder(width, height, bytes_per_frame)
    frames = (*map(av_frame, truths), None)
    return [packet for frame in frames for packet in encoder.encode(frame)]


def x264_encoder(width: int, height: int, bytes_per_frame: float) -> VideoCodecContext:
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
