"""A loop of which a test says how it is."""

from __future__ import annotations


class Loop:
    last_turn_at_secs = 0.0
    waiting_for = ""
    fails_for_secs = 0.0
