"""Whether a consumer fails at everything: then something is wrong with it, not with an entry."""

from __future__ import annotations

import time
from collections.abc import Iterable

STILL_TRIES_SECS = 30.0
"""Since a failure: who tries nothing fails at nothing. A few of the gateways' probes come in it."""


class Failures:
    """In a row, of entries of more than one session: of one alone it may be the session's fault. A
    gateway's probe is another one.
    """

    def __init__(self) -> None:
        self._since_secs: float | None = None
        self._newest_secs = 0.0
        self._sessions: set[object] = set()

    @property
    def secs(self) -> float:
        """How long all that was tried has failed; 0 where something succeeded, or none is tried."""
        if self._since_secs is None or len(self._sessions) < 2 or self._is_over():  # noqa: PLR2004
            return 0.0
        return time.monotonic() - self._since_secs

    def add(self, sessions: Iterable[object]) -> None:
        """All that was tried failed, of these sessions."""
        if self._since_secs is None or self._is_over():
            self._since_secs = time.monotonic()
            self._sessions.clear()
        self._newest_secs = time.monotonic()
        self._sessions.update(sessions)

    def end(self) -> None:
        """Something succeeded."""
        self._since_secs = None

    def _is_over(self) -> bool:
        return time.monotonic() - self._newest_secs > STILL_TRIES_SECS
