"""What `sgaps doctor` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass

TIMEOUT_SECS = 3.0
"""For anything that is asked over a network."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at; `cure` says what to do where it is not well."""

    what: str
    well: bool
    detail: str
    cure: str = ""
