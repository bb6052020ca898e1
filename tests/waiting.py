"""Tests wait for the event itself, and long: only one that fails waits in vain."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

PATIENCE_SECS = 120.0
T = TypeVar("T")


def wait_until(
    look: Callable[[], T | None], what: str = "", *, timeout_secs: float = PATIENCE_SECS
) -> T:
    """What `look` finds, as soon as it finds something.

    A tenth of the time is for looking: what is awaited needs the processor, and a trainer gets only
    what nobody else wants.
    """
    deadline_secs = time.monotonic() + timeout_secs
    while True:
        began_secs = time.monotonic()
        if found := look():
            return found
        now_secs = time.monotonic()
        assert now_secs < deadline_secs, f"still not after {timeout_secs:g} s: {what}"
        time.sleep(min(1.0, max(0.02, 9 * (now_secs - began_secs))))


def answers(url: str) -> bool:
    """Whether all is well at an address: what to wait for where a server starts."""
    try:
        return httpx.get(url, timeout=10).is_success
    except httpx.HTTPError:
        return False


async def eventually(look: Callable[[], object], *, timeout_secs: float = PATIENCE_SECS) -> None:
    """Return as soon as `look`, which may be async, finds something."""
    async with asyncio.timeout(timeout_secs):
        while True:
            found = look()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)
