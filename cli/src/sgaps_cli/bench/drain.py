"""Services that are held while their stream is filled, and then do all that waits there."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from redis import Redis

from sgaps.bus.base import LEDGER_KEY
from sgaps.messages import Message
from sgaps_cli.bench.frames import fill
from sgaps_cli.bench.processes import LOOK_EVERY_SECS, wait_until
from sgaps_cli.broker import BrokerError

TIMEOUT_SECS = 900.0


def hold_and_fill(
    redis: Redis, held: Sequence[subprocess.Popen[bytes]], waiting: Sequence[Message]
) -> None:
    """The processes stand still, and messages wait for them."""
    for process in held:
        process.send_signal(signal.SIGSTOP)
    fill(redis, waiting)


def release(
    redis: Redis,
    held: Sequence[subprocess.Popen[bytes]],
    waiting: Sequence[Message],
    *,
    group: str,
    look_every_secs: float = LOOK_EVERY_SECS,
) -> None:
    """Let them do everything. Raises BrokerError if they leave any out."""
    for process in held:
        process.send_signal(signal.SIGCONT)
    wait_until(
        lambda: _acknowledged(redis, waiting[0].stream, group) >= len(waiting),
        held[0],
        f"{group} has done all",
        timeout_secs=TIMEOUT_SECS,
        look_every_secs=look_every_secs,
    )
    if redis.hexists(LEDGER_KEY, "superseded"):
        raise BrokerError(f"{group} was not given the time to do all: frames superseded")


def _acknowledged(redis: Redis, stream: str, group: str) -> int:
    groups: Any = redis.xinfo_groups(stream)
    (told,) = (g for g in groups if g["name"] == group.encode())
    return int(told["entries-read"] or 0) - int(told["pending"])
