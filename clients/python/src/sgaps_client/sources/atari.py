"""Atari 2600 games, played at random with held actions (ale-py brings the games)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ale_py import Action, ALEInterface, LoggerMode, roms

from sgaps.errors import SourceError
from sgaps_client.sources.base import (
    GameFrame,
    Gray,
    State,
    gray_from_rgb,
    resize,
)

SIZE = (160, 210)
"""Of nearly all games; the few higher ones are scaled to it."""
EMULATED_PER_FRAME = 6
"""The console draws 60 pictures a second."""
STATE_DIM = 64
"""The server's default `max_state_dim`: the first half of the RAM."""
UNSUPPORTED = frozenset({"combat", "joust", "maze_craze", "warlords"})
"""Games for several players that ale-py brings and its emulator does not support: loading one of
them ends the whole process, with no exception, so they are not offered."""
CHANGE_CHANCE = 0.25
"""Of a new action, per frame: an action is held 0.4 s on average, as a hand does."""


class AtariSource:
    """One game, begun again whenever it is over. The state vector is half of the console's RAM."""

    width, height = SIZE
    state_dim = STATE_DIM

    def __init__(self, game: str, *, width: int | None = None, seed: int = 0) -> None:
        """Load the game. Raises SourceError where there is none, or it has not that width."""
        self.name = f"atari/{game}"
        if width not in {None, self.width}:
            size = f"{self.width}x{self.height}"
            raise SourceError(f"{self.name} has one size, {size}; leave the width out")
        self._rng = np.random.default_rng(seed)
        self._console = _console_with(game, seed=seed)
        self._actions = self._console.getMinimalActionSet()
        self._action = Action.NOOP

    def frames(self) -> Iterator[GameFrame]:
        """See Source."""
        while True:
            image = self._advance()
            yield GameFrame(image=image, state=self._ram())
            if self._console.game_over():
                self._console.reset_game()

    def close(self) -> None:
        """Nothing to release: the emulator lives in this process."""

    def _advance(self) -> Gray:
        if self._rng.random() < CHANGE_CHANCE:
            self._action = self._actions[int(self._rng.integers(len(self._actions)))]
        for _ in range(EMULATED_PER_FRAME - 1):
            self._console.act(self._action)
        before = gray_from_rgb(self._console.getScreenRGB())
        self._console.act(self._action)
        # Games draw half their objects in every other picture: a television shows both.
        image = np.maximum(before, gray_from_rgb(self._console.getScreenRGB()))
        return resize(image, width=self.width, height=self.height)

    def _ram(self) -> State:
        return self._console.getRAM()[:STATE_DIM].astype(np.float32)


def _console_with(game: str, *, seed: int) -> ALEInterface:
    names = set(roms.get_all_rom_ids()) - UNSUPPORTED
    path = roms.get_rom_path(game) if game in names else None
    if path is None:
        raise SourceError(f"there is no atari/{game}; the games are {', '.join(sorted(names))}")
    ALEInterface.setLoggerMode(LoggerMode.Error)
    console = ALEInterface()
    console.setInt("random_seed", seed)
    console.setFloat("repeat_action_probability", 0.0)
    console.loadROM(path)
    return console
