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

from sgaps.atlas.blend import Rebuilt, with_atlas
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

    # Of captured play every frame came whole, of a played session some did.
    segments = [s for s in find_segments(recordings, key) if s.keyframe_count]
    if not segments:
        sys.exit(f"no whole frames of {key} in {recordings}: sgaps capture makes some")
    with SegmentReader(segments[0].path, sentinel=settings.sentinel_value) as reader:
        whole = reader.keyframe_positions
        frame = reader.read(int(whole[len(whole) // 2]))
    truth = picture_of(frame.keyframe, frame.width, frame.height)  # uint8 (H, W)
    if truth is None:
        sys.exit(f"frame {frame.frame_id} of {segments[0].path} cannot be decoded")

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
    # Better where the checkpoint knows the level by heart; without an atlas as it was.
    rebuilt = with_atlas(
        checkpoint.atlas,
        Rebuilt(output.frame[0, 0].mul(255).round().byte().numpy(), output.log_error[0].numpy()),
        samples=samples,
        state=frame.state,
        sentinel=settings.sentinel_value,
    )

    if not cv2.imwrite(str(out), np.hstack([truth, rebuilt.frame])):
        sys.exit(f"{out} cannot be written")
    print(f"{checkpoint.manifest.model_version}: {cv2.PSNR(truth, rebuilt.frame):.2f} dB, {out}")


if __name__ == "__main__":
    if len(sys.argv) != 4:  # noqa: PLR2004 - itself, and what main() takes
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
