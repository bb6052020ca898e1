"""A scripted player for first-person games: wanders in arcs, keeps clear of walls. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgaps_client.sources.base import State

WANDER_DEG_PER_TIC = 0.9
WANDER_MEMORY = 0.85
STEER_DEG_PER_TIC = 4.0
AVOID_DEG_PER_TIC = 4.0
TURN_EASING = 0.5
FRAMES_ON_THE_SPOT = (2, 6)
NEAR = 9.0
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

    def __init__(self, rng: np.random.Generator, *, can_walk: bool) -> None:
        self._rng = rng
        self._can_walk = can_walk
        self._wander = 0.0
        self._turn = 0.0
        self._side = 0
        """Where it turns to get free: 1 right, -1 left, 0 nothing is in the way."""
        self._frames_on_the_spot = 0
        self._attack_frames_left = 0
        self._walked_from: tuple[float, float] | None = None

    def reset(self) -> None:
        """Forget where the player was: a new episode puts it elsewhere."""
        self._walked_from = None
        self._side = 0
        self._frames_on_the_spot = 0

    def decide(self, position: tuple[float, float], clearance: State) -> Move:
        """Choose the next move from the position in map units and the depth seen, (3,): left,
        ahead, right.
        """
        stuck = self._is_stuck(position)
        if self._can_walk:
            self._watch_the_way(clearance, stuck=stuck)
        self._turn += TURN_EASING * (self._wanted_turn(clearance) - self._turn)
        walks = self._can_walk and self._frames_on_the_spot == 0
        self._walked_from = position if walks else None
        return Move(
            forward=walks,
            turn_deg_per_tic=self._turn,
            attack=self._attacks(),
            use=stuck and self._rng.random() < USE_CHANCE,
        )

    def _is_stuck(self, position: tuple[float, float]) -> bool:
        came_from = self._walked_from
        return came_from is not None and math.dist(came_from, position) < STUCK_MOVE

    def _watch_the_way(self, clearance: State, *, stuck: bool) -> None:
        left, ahead, right = (float(depth) for depth in clearance)
        if stuck:
            self._frames_on_the_spot = int(self._rng.integers(*FRAMES_ON_THE_SPOT))
        elif self._frames_on_the_spot:
            self._frames_on_the_spot -= 1
        elif ahead >= NEAR:
            self._side = 0
            return
        self._side = self._side or self._freer_side(left, right)

    def _freer_side(self, left: float, right: float) -> int:
        return int(np.sign(right - left)) or int(self._rng.choice((-1, 1)))

    def _wanted_turn(self, clearance: State) -> float:
        noise = self._rng.normal(0.0, WANDER_DEG_PER_TIC)
        self._wander = WANDER_MEMORY * self._wander + noise
        if self._side:
            return AVOID_DEG_PER_TIC * self._side
        left, _, right = (float(depth) for depth in clearance)
        return self._wander + STEER_DEG_PER_TIC * (right - left) / (right + left + 1.0)

    def _attacks(self) -> bool:
        if self._attack_frames_left == 0 and self._rng.random() < ATTACK_CHANCE:
            self._attack_frames_left = int(self._rng.integers(1, ATTACK_FRAMES + 1))
        attacks = self._attack_frames_left > 0
        self._attack_frames_left -= attacks
        return attacks
