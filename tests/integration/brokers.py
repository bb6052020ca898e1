"""The servers that a deployment may have: the Valkey that comes with us, and Redis 7.0."""

from __future__ import annotations

from pathlib import Path

from sgaps_cli import broker
from tools import require_tool

VALKEY, REDIS = "valkey", "redis-7.0"


def program(name: str, folder: Path) -> Path:
    """The program of a server; a missing Redis skips the test, or fails it in CI."""
    return broker.find_program() if name == VALKEY else redis_program(folder)


def redis_program(folder: Path) -> Path:
    """Debian's Redis, which was built with TLS.

    Its package redis-tools holds the server under another name: it looks at what it is called.
    So nothing is started as a service of this machine, and `sgaps up` does not find it.
    """
    named = folder / "redis-server"
    named.symlink_to(require_tool("redis-check-rdb", "redis-tools"))
    return named
