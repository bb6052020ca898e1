"""Flipped bits all over a sealed segment: a typed refusal or legal frames, no dead interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from paths import TESTS
from toy_segments import keyframe, make_frame, write_segment

FLIPPED = 500


def test_no_flipped_bit_kills_the_reader(tmp_path: Path) -> None:
    frames = [keyframe(i) if i % 5 == 0 else make_frame(i) for i in range(30)]
    path = write_segment(tmp_path, frames)
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "hostile.damage_segment", path, str(FLIPPED)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(told)
    assert told["read"] + told["refused"] == FLIPPED
    assert told["refused"] > FLIPPED / 5
