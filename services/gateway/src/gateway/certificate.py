"""The gateway's own certificate, read again where its files change: a renewal needs no restart."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sgaps.errors import SettingsError

log = logging.getLogger(__name__)

LOOK_EVERY_SECS = 10.0


class Certificate:
    """What new connections are shown; those that are open keep what they were shown."""

    def __init__(
        self, context: ssl.SSLContext, files: Sequence[Path], load: Callable[[], ssl.SSLContext]
    ) -> None:
        """`context` serves, and has read these files; `load` reads them, or raises SettingsError.

        A context takes a certificate for each kind of key, so a renewed one might stand beside the
        old one: each handshake is handed to the newest context instead.
        """
        self._newest = context
        self._files = files
        self._load = load
        self._written_ns = self._when_written_ns()
        context.sni_callback = self._hand_over

    async def run(self, stop: asyncio.Event) -> None:
        """Look every few seconds until told to stop."""
        while not stop.is_set():
            self._look()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_EVERY_SECS)

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _look(self) -> None:
        written_ns = self._when_written_ns()
        if written_ns == self._written_ns:
            return
        self._written_ns = written_ns
        try:
            self._newest = self._load()
        except SettingsError as error:  # the certificate may be there before its key
            log.warning("the certificate of before serves on: %s", error)
        else:
            log.info("new connections are shown the renewed %s", self._files[0])

    def _when_written_ns(self) -> list[int]:
        """Each file; 0 where it is not there. A link is followed: a renewal may turn it."""
        return [_written_ns(file) for file in self._files]


def _written_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
