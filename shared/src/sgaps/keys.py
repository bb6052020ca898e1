"""Keyed values beside the streams: their names, who writes them, how long they live."""

from __future__ import annotations

from sgaps.messages import Packed
from sgaps.packing import Float32, unpack_pixels

SESSION_TTL_SECS = 3600.0
"""So long a session can be resumed."""
MEMORY_TTL_SECS = 300.0
"""Of its past samples and its coordinates, which take a hundred times as much room, and without
which it goes on. Kept for an hour too, one address could fill the broker with what it left behind.
"""


def session_key(session_id: str) -> str:
    """Hash: what a gateway must know to resume a session. Gateway and recorder write it."""
    return f"sgaps:session:{session_id}"


def history_key(session_id: str) -> str:
    """List of `PastSamples`, newest first. The gateway writes it with every frame."""
    return f"sgaps:history:{session_id}"


def watch_key(session_id: str) -> str:
    """Hash that exists while somebody watches the session. The gateway writes it."""
    return f"sgaps:watch:{session_id}"


def sampler_key(session_id: str) -> str:
    """Hash: the coordinates in force and when they were chosen. The sampler writes it."""
    return f"sgaps:sampler:{session_id}"


class PastSamples(Packed, frozen=True, kw_only=True):
    """The samples of one frame, kept as the memory of the next ones."""

    frame_id: int
    width: int
    height: int
    samples_bytes: bytes
    footprint_bytes: bytes = b""

    @property
    def samples(self) -> Float32:
        """float32 (N, 4): u, v, value, footprint. Raises MessageError."""
        return unpack_pixels(self.samples_bytes, self.footprint_bytes)
