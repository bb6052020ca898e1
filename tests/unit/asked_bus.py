"""A bus that tells what it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sgaps.bus import MemoryBus


class AskedBus(MemoryBus):
    """Notes the keys of the hashes and lists that it was asked for, trip by trip."""

    def __init__(self) -> None:
        super().__init__()
        self.trips: list[list[str]] = []

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        self.trips.append(list(keys))
        return await super().hashes(keys)

    async def lists(self, keys: Sequence[str], *, count: int) -> list[list[bytes]]:
        self.trips.append(list(keys))
        return await super().lists(keys, count=count)
