"""The recordings that the browser game's checkpoint was made from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from paths import TESTS
from sgaps.recording import SegmentReader, find_segments
from sgaps_client.pictures import decoded_png
from tools import require_tool

FRAMES = 3


def test_a_walk_is_a_recording(tmp_path: Path) -> None:
    require_tool("chromium", "chromium")
    arguments = [str(tmp_path), "--sessions", "1", "--frames", str(FRAMES)]
    subprocess.run([sys.executable, "-m", "browser.walks", *arguments], cwd=TESTS, check=True)
    (segment,) = find_segments(tmp_path)
    with SegmentReader(segment.path) as reader:
        frames = [reader.read(position) for position in range(len(reader))]
    pictures = [decoded_png(frame.keyframe or b"") for frame in frames]
    assert len(frames) == FRAMES
    assert all(picture.shape == (240, 320) and picture.std() > 10 for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[-1])
    assert not np.array_equal(frames[0].state, frames[-1].state)
