"""Ports for the servers of tests."""

from __future__ import annotations

import contextlib
import random
import socket

NOT_FOR_CONNECTIONS = range(20_000, 32_768)
"""Below those that Linux gives to whoever connects, which may be gone before a server has them."""


def free_port() -> int:
    """A loopback port that nothing listens on, and that no connection gets meanwhile."""
    choose = random.SystemRandom().choice
    while True:
        port = choose(NOT_FOR_CONNECTIONS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
