"""One captured frame, sampled and rebuilt by the checkpoint that serves its key.

    .venv/bin/python docs/examples/rebuild_frame.py atari-space_invaders data/test data/rebuilt.png

The picture shows the true frame and the rebuilt one side by side.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from sgaps.model import collate, load_serving
from sgaps.recording import SegmentReader, find_segments
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import load_settings
from sgaps.whole_frames import picture_of


def main(key: str, recordings: Path, out: Path) -> None:
    settings = load_settings()
    checkpoint = load_serving(settings.data, key)

    segments = find_segments(recordings, key)
    if not segments:
        sys.exit(f"no recordings of {key} in {recordings}: sgaps capture makes some")
    with SegmentReader(segments[0].path) as reader:
        frame = reader.read(len(reader) // 2)
    truth = picture_of(frame.keyframe, frame.width, frame.height)  # uint8 (H, W)
    if truth is None:
        sys.exit(f"frame {frame.frame_id} of {segments[0].path} has no whole picture")

    # 500 even squares; a played frame has its samples already, `frame.samples`.
    squares = AdaptiveUVSampler(settings.sampling, footprints=True).sample(
        NOTHING_KNOWN,
        count=settings.sampling.default_sample_count,
        width=frame.width,
        height=frame.height,
        rng=np.random.default_rng(0),
    )
    samples = sample_image(truth, squares)  # (N, 4): u, v, mean, side

    # A batch of one. The past, [(age in frames, samples)], is empty: a session begins like this.
    inputs = collate(
        [(samples, [], frame.state)],
        width=frame.width,
        height=frame.height,
        attended_frames=checkpoint.manifest.model.attended_frames,
        max_state_dim=checkpoint.manifest.model.max_state_dim,
        sentinel=settings.sentinel_value,
    )
    with torch.inference_mode():
        output = checkpoint.model(inputs)
    rebuilt = output.frame[0, 0].mul(255).round().byte().numpy()

    if not cv2.imwrite(str(out), np.hstack([truth, rebuilt])):
        sys.exit(f"{out} cannot be written")
    print(f"{checkpoint.manifest.model_version}: {cv2.PSNR(truth, rebuilt):.2f} dB, {out}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
