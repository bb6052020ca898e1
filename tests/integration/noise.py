"""A game for tests in which any picture will do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgaps_client.sources import GameFrame


class Noise:
    """A moving picture."""

    name = "test/noise"
    width, height, state_dim = 64, 48, 2

    def frames(self) -> Iterator[GameFrame]:
        random = np.random.default_rng(0)
        while True:
            yield GameFrame(
                image=random.integers(0, 255, (self.height, self.width)).astype(np.uint8),
                state=np.zeros(self.state_dim, np.float32),
            )

    def close(self) -> None: ...
