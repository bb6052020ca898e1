"""A game of one gray, and how it is played at the scripted gateway."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgaps_client.player import PlayOptions
from sgaps_client.sources import GameFrame
from unit.scripted_gateway import ScriptedGateway

SHADE = 51


class Flat:
    """Frames of one gray, as many as asked for."""

    name = "test/flat"
    width, height, state_dim = 8, 6, 2

    def __init__(self, count: int = 10**6) -> None:
        self._count = count
        self.given = 0

    def frames(self) -> Iterator[GameFrame]:
        for _ in range(self._count):
            self.given += 1
            yield GameFrame(
                image=np.full((self.height, self.width), SHADE, np.uint8),
                state=np.zeros(self.state_dim, np.float32),
            )

    def close(self) -> None: ...


def options(
    gateway: ScriptedGateway, *, frames: int | None = None, session_frames: int | None = None
) -> PlayOptions:
    return PlayOptions(
        url=gateway.url,
        checkpoint_key="flat",
        frames=frames,
        session_frames=session_frames,
        auth_token=None,
    )
