"""The benches' reconstructor with a model that takes a fixed time, which here may die as well.

A frame whose state vector begins with POISON aborts the process, as a bug in native code would:
no `except` ever sees it. `python -m faults.fixed_model --secs 0.02 key=value...`
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from reconstructor.frame import FrameInput, Reconstruction
from sgaps_cli.bench.fixed_model import FixedModel, serve

POISON = 666.0


class MortalModel(FixedModel):
    """Dies of poisoned frames."""

    def reconstruct(self, frames: Sequence[FrameInput]) -> list[Reconstruction]:
        if any((frame.state[:1] == POISON).any() for frame in frames):  # a probe has no state
            os.abort()
        return super().reconstruct(frames)


if __name__ == "__main__":
    sys.exit(serve(MortalModel))
