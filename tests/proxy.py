"""A TCP proxy that cuts, slows or swallows what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ports import free_port

Fault: TypeAlias = Literal["none", "cut", "slow", "half-open"]
CHUNK_BYTES = 65536


@dataclass(eq=False)
class _Connection:
    """One client and its own connection to the target."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    swallows: bool = False
    """Half-open: each side thinks that the other is there, and nothing arrives any more."""

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@dataclass
class Proxy:
    """Passes everything on to a loopback port, until `hurt`."""

    target_port: int
    slow_secs: float = 0.0
    """How late everything comes while it is slow."""
    port: int = field(default_factory=free_port)
    refused: int = 0
    """Connections that were tried while it was cut."""
    _fault: Fault = "none"
    _server: asyncio.Server | None = None
    _connections: set[_Connection] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        for connection in self._connections:
            connection.abort()
        if self._server is not None:
            self._server.close()

    def hurt(self, fault: Fault) -> None:
        """cut: all connections end, and new ones too. slow: everything comes late. half-open:
        nothing arrives on these connections ever again, nor on new ones until `heal`."""
        self._fault = fault
        for connection in self._connections:
            connection.swallows = fault == "half-open"
            if fault == "cut":
                connection.abort()

    def heal(self) -> None:
        """New connections are well; of the old ones the half-open ones stay as they are."""
        self._fault = "none"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault == "cut":
            self.refused += 1
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        connection = _Connection((writer, far_writer), swallows=self._fault == "half-open")
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, connection),
                self._pump(far_reader, writer, connection),
            )
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self._fault == "slow":
                    await asyncio.sleep(self.slow_secs)
                if not connection.swallows:
                    writer.write(data)
                    await writer.drain()
            writer.close()
