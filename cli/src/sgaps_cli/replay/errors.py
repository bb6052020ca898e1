"""What can be wrong with a replay, beside recordings and checkpoints themselves."""

from __future__ import annotations

from sgaps.errors import SgapsError


class ReplayError(SgapsError):
    """A replay cannot be started, or a frame cannot be rebuilt. The message names the cure."""


class NotListed(ReplayError):
    """Somebody asked for what was not offered: it may have gone since."""
