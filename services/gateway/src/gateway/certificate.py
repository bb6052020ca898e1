"""The gateway's own certificate, read again where its files change: a renewal needs no restart."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_EVERY_SECS = 10.0


class Certificate:
    """What new connections are shown; those that are open keep what they were shown."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        """`context` has loaded these files."""
        self._context = context
        self._files = certificate, key
        self._written_ns = self._when_written_ns()

    async def run(self, stop: asyncio.Event) -> None:
        """Look every few seconds until told to stop."""
        while not stop.is_set():
            self._look()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_EVERY_SECS)

    def _look(self) -> None:
        written_ns = self._when_written_ns()
        if written_ns == self._written_ns:
            return
        self._written_ns = written_ns
        try:
            # In a context of its own first: the certificate may be there before its key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
            self._context.load_cert_chain(*self._files)
        except OSError as error:  # ssl.SSLError is one too
            log.warning("%s and %s cannot be used, those of before are: %s", *self._files, error)
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
