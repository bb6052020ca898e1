"""Doom, played by a scripted bot without a window (ViZDoom)."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import vizdoom

from sgaps.errors import SourceError
from sgaps_client.sources.base import (
    MISSING,
    GameFrame,
    State,
    fit_size,
    gray_from_rgb,
)
from sgaps_client.sources.bot import Move, WanderBot

SCENARIOS = (
    "deadly_corridor",
    "deathmatch",
    "defend_the_center",
    "defend_the_line",
    "health_gathering",
    "health_gathering_supreme",
    "my_way_home",
)
FREEDOOM_MAP = re.compile(r"(freedoom1)-(e[1-4]m[1-9])|(freedoom2)-(map(?:0[1-9]|[12]\d|3[0-2]))")
WITHOUT_HUD = "-nohud"
"""Behind the name of a scenario or level: without its status bar."""
NATIVE_SIZE = (320, 240)
TICS_PER_FRAME = (3, 4)
"""Doom has 35 tics a second: 3 and 4 in turn make 10 frames."""

STATE_VARIABLES = (
    vizdoom.GameVariable.POSITION_X,
    vizdoom.GameVariable.POSITION_Y,
    vizdoom.GameVariable.POSITION_Z,
    vizdoom.GameVariable.ANGLE,
    vizdoom.GameVariable.PITCH,
    vizdoom.GameVariable.VELOCITY_X,
    vizdoom.GameVariable.VELOCITY_Y,
    vizdoom.GameVariable.VELOCITY_Z,
    vizdoom.GameVariable.HEALTH,
    vizdoom.GameVariable.ARMOR,
    vizdoom.GameVariable.SELECTED_WEAPON_AMMO,
    vizdoom.GameVariable.CAMERA_POSITION_Z,
)
"""The state vector, in order: map units, degrees (0 = east, anticlockwise), map units per tic,
points, points, rounds, map units. Nothing is normalised. The first height is that of the feet, the
last that of the eye, which bobs with each step."""
_AMMO = STATE_VARIABLES.index(vizdoom.GameVariable.SELECTED_WEAPON_AMMO)
_NO_AMMO = -1.0
_TURNS = (vizdoom.Button.TURN_LEFT, vizdoom.Button.TURN_RIGHT)
_USED = (vizdoom.Button.MOVE_FORWARD, vizdoom.Button.ATTACK, vizdoom.Button.USE)

ENGINE_ERRORS = (
    vizdoom.MessageQueueException,
    vizdoom.SharedMemoryException,
    vizdoom.ViZDoomErrorException,
    vizdoom.ViZDoomIsNotRunningException,
    vizdoom.ViZDoomUnexpectedExitException,
)
"""What a dead engine raises, by how it died: ViZDoom has no error of which these are kinds."""


class DoomSource:
    """One scenario or level, episode after episode without end."""

    def __init__(self, scenario: str, *, width: int | None = None, seed: int = 0) -> None:
        """Start the engine. Raises SourceError where the scenario or the size does not exist."""
        self.name = f"doom/{scenario}"
        self.width, self.height = fit_size(NATIVE_SIZE, width=width)
        self.state_dim = len(STATE_VARIABLES)
        self._game = _configured(scenario, resolution=_resolution(self.width, self.height))
        self._game.set_seed(seed)
        self._buttons = self._game.get_available_buttons()
        self._bot = WanderBot(
            np.random.default_rng(seed), can_walk=vizdoom.Button.MOVE_FORWARD in self._buttons
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="sgaps-doom-")
        try:
            _start(self._game, Path(self._scratch.name))
        except ENGINE_ERRORS as error:
            self._scratch.cleanup()
            raise SourceError(f"{self.name}: Doom does not start: {error}") from error

    def frames(self) -> Iterator[GameFrame]:
        """See Source; a dead engine raises SourceError."""
        try:
            yield from self._play()
        except ENGINE_ERRORS as error:
            raise SourceError(f"{self.name}: the Doom engine ended: {error}") from error

    def close(self) -> None:
        self._game.close()
        self._scratch.cleanup()

    def _play(self) -> Iterator[GameFrame]:
        tics = itertools.cycle(TICS_PER_FRAME)
        while True:
            state = self._game.get_state()
            if state is None:  # the episode is over
                self._game.new_episode()
                self._bot.reset()
                continue
            frame = _frame(state)
            yield frame
            position = float(frame.state[0]), float(frame.state[1])
            move = self._bot.decide(position, _clearance(state))
            self._game.make_action(_action(move, self._buttons), next(tics))


def _configured(scenario: str, *, resolution: vizdoom.ScreenResolution) -> vizdoom.DoomGame:
    game = vizdoom.DoomGame()
    config, map_name = _config_and_map(scenario.removesuffix(WITHOUT_HUD))
    game.load_config(str(Path(vizdoom.scenarios_path) / f"{config}.cfg"))
    if scenario.endswith(WITHOUT_HUD):
        game.set_render_hud(False)
    if map_name:
        game.set_doom_map(map_name)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_audio_buffer_enabled(False)
    game.set_automap_buffer_enabled(False)
    game.set_depth_buffer_enabled(True)  # what the bot steers by
    # GRAY8 would be BT.709 luma (measured); the protocol's gray is BT.601.
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_screen_resolution(resolution)
    game.set_available_game_variables(list(STATE_VARIABLES))
    game.set_available_buttons(_useful_buttons(game.get_available_buttons()))
    return game


def _config_and_map(scenario: str) -> tuple[str, str]:
    if scenario in SCENARIOS:
        return scenario, ""
    if level := FREEDOOM_MAP.fullmatch(scenario):
        config, map_name = (group for group in level.groups() if group)
        return config, map_name
    raise SourceError(
        f"there is no doom/{scenario}; there are doom/{', doom/'.join(SCENARIOS)} "
        "and levels such as doom/freedoom1-e1m1 and doom/freedoom2-map01, "
        f"all of them without a status bar too, by {WITHOUT_HUD} behind the name"
    )


def _resolution(width: int, height: int) -> vizdoom.ScreenResolution:
    resolutions = vizdoom.ScreenResolution.__members__
    if f"RES_{width}X{height}" not in resolutions:
        sizes = (map(int, name.removeprefix("RES_").split("X")) for name in resolutions)
        fitting = ", ".join(
            f"{w}x{h}" for w, h in sizes if fit_size(NATIVE_SIZE, width=w) == (w, h)
        )
        raise SourceError(f"Doom does not draw {width}x{height}; it draws {fitting}")
    return resolutions[f"RES_{width}X{height}"]


def _useful_buttons(offered: list[vizdoom.Button]) -> list[vizdoom.Button]:
    """What the bot presses of what the scenario has; turning is by degrees, for smooth arcs."""
    turn = [vizdoom.Button.TURN_LEFT_RIGHT_DELTA] if set(_TURNS) <= set(offered) else []
    return [button for button in _USED if button in offered] + turn


def _start(game: vizdoom.DoomGame, scratch: Path) -> None:
    """Start the engine in a scratch folder: it writes `_vizdoom/` and an ini file where it runs."""
    game.set_doom_config_path(str(scratch / "_vizdoom.ini"))
    _let_die_with_us(game, scratch)
    with contextlib.chdir(scratch), _interrupts_held():
        game.init()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C in the terminal for this process, which hears it behind the block.

    What is started in it, here the engine, stays deaf to it for good: an engine that dies while it
    starts takes this process with it, by a segfault.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _let_die_with_us(game: vizdoom.DoomGame, scratch: Path) -> None:
    """Have the kernel end the engine with this process: alone it outlives a killed player for ever.

    Where there is no `setpriv` (util-linux) or scratch files may not be executed, it stays so.
    """
    setpriv = shutil.which("setpriv")
    launcher = scratch / "vizdoom"
    engine = Path(vizdoom.__file__).with_name("vizdoom")
    if setpriv is None:
        return
    start = shlex.join([setpriv, "--pdeathsig", "KILL", "--", str(engine)])
    launcher.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
    launcher.chmod(0o700)
    if os.access(launcher, os.X_OK):
        game.set_vizdoom_path(str(launcher))


def _frame(state: vizdoom.GameState) -> GameFrame:
    values = np.array(state.game_variables, dtype=np.float32)  # (S,)
    if values[_AMMO] == _NO_AMMO:
        values[_AMMO] = MISSING
    return GameFrame(image=gray_from_rgb(state.screen_buffer), state=values)


def _clearance(state: vizdoom.GameState) -> State:
    """Mean depth left, ahead and right, (3,), in a band around the horizon."""
    depth = np.asarray(state.depth_buffer)  # (H, W)
    height, width = depth.shape
    band = depth[int(0.46 * height) : int(0.54 * height)]
    thirds = np.split(band, (width // 3, 2 * width // 3), axis=1)
    return np.array([third.mean() for third in thirds], dtype=np.float32)


def _action(move: Move, buttons: list[vizdoom.Button]) -> list[float]:
    values = {
        vizdoom.Button.MOVE_FORWARD: float(move.forward),
        vizdoom.Button.TURN_LEFT_RIGHT_DELTA: move.turn_deg_per_tic,
        vizdoom.Button.ATTACK: float(move.attack),
        vizdoom.Button.USE: float(move.use),
    }
    return [values[button] for button in buttons]
