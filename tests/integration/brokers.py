"""The servers that a deployment may have: the Valkey that comes with us, and Redis 7.0."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sgaps_cli import broker

VALKEY, REDIS = "valkey", "redis-7.0"


def program(name: str, folder: Path) -> Path:
    """The program of a server; a missing Redis skips the test, or fails it in CI."""
    return broker.find_program() if name == VALKEY else redis_program(folder)


def redis_program(folder: Path) -> Path:
    """Debian's Redis, which was built with TLS.

    Its package redis-tools holds the server under another name: it looks at what it is called.
    So nothing is started as a service of this machine, and `sgaps up` does not find it.
    """
    found = shutil.which("redis-check-rdb")
    if found is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("needs redis-tools")
    named = folder / "redis-server"
    named.symlink_to(str(found))
    return named
