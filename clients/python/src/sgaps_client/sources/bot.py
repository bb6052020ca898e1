"""A scripted player for first-person games: wanders in arcs, keeps clear of walls. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgaps_client.sources.base import State

WANDER_DEG_PER_TIC = 0.9
WANDER_MEMORY = 0.85
STEER_DEG_PER_TIC = 2.0
AVOID_DEG_PER_TIC = 6.0
NEAR = 6.0
"""Clearance below which the way ahead counts as blocked; a unit is about 8 map units."""
STUCK_MOVE = 4.0
"""Map units in one frame; a walking player makes 25 or more."""
ATTACK_CHANCE = 0.06
ATTACK_FRAMES = 4
USE_CHANCE = 0.3


@dataclass(frozen=True, kw_only=True)
class Move:
    """What the player does until the next frame."""

    forward: bool
    turn_deg_per_tic: float
    """Positive turns right."""
    attack: bool
    use: bool


class WanderBot:
    """Walks forward in smooth arcs, towards free space and away from where it is stuck."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._wander = 0.0
        self._turn = 0.0
        self._avoid_side = 0
        self._attack_frames_left = 0
        self._position: tuple[float, float] | None = None
        self._walked = False

    def reset(self) -> None:
        """Forget where the player was: a new episode puts it elsewhere."""
        self._position = None
        self._avoid_side = 0

    def decide(self, position: tuple[float, float], clearance: State) -> Move:
        """Choose the next move from the position in map units and the depth seen, (3,): left,
        ahead, right.
        """
        stuck = self._is_stuck(position)
        self._turn += 0.5 * (self._wanted_turn(clearance, stuck=stuck) - self._turn)
        self._walked = not (stuck and self._avoid_side)
        return Move(
            forward=self._walked,
            turn_deg_per_tic=self._turn,
            attack=self._attacks(),
            use=stuck and self._rng.random() < USE_CHANCE,
        )

    def _is_stuck(self, position: tuple[float, float]) -> bool:
        before, self._position = self._position, position
        if before is None or not self._walked:
            return self._avoid_side != 0 and before is not None
        return math.dist(before, position) < STUCK_MOVE

    def _wanted_turn(self, clearance: State, *, stuck: bool) -> float:
        left, ahead, right = (float(c) for c in clearance)
        noise = self._rng.normal(0.0, WANDER_DEG_PER_TIC)
        self._wander = WANDER_MEMORY * self._wander + noise
        if ahead >= NEAR:
            self._avoid_side = 0
            return self._wander + STEER_DEG_PER_TIC * (right - left) / (right + left + 1.0)
        if ahead < NEAR / 2 or stuck:
            self._avoid_side = self._avoid_side or self._freer_side(left, right)
        return AVOID_DEG_PER_TIC * (self._avoid_side or self._freer_side(left, right))

    def _freer_side(self, left: float, right: float) -> int:
        if left == right:
            return 1 if self._rng.random() < 0.5 else -1  # noqa: PLR2004 - a coin
        return 1 if right > left else -1

    def _attacks(self) -> bool:
        if self._attack_frames_left == 0 and self._rng.random() < ATTACK_CHANCE:
            self._attack_frames_left = int(self._rng.integers(1, ATTACK_FRAMES + 1))
        attacks = self._attack_frames_left > 0
        self._attack_frames_left -= attacks
        return attacks
