"""The end of a service: asked for by a signal, and bounded in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading

log = logging.getLogger(__name__)


def listen_to_signals(stop: asyncio.Event, ended: contextlib.ExitStack, drain_secs: float) -> None:
    """The first signal asks the service to finish, in bounded time; a second one ends it."""
    loop = asyncio.get_running_loop()

    def stop_or_end(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("told twice to stop: ends at once")
            os._exit(128 + number)
        stop.set()
        end_within(drain_secs, ended)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_or_end, number)


def end_within(timeout_secs: float, ended: contextlib.ExitStack) -> None:
    """End this process when the time is over, whatever hangs; what is unfinished stays pending.

    A thread does it, because it may be the event loop that hangs. Closing `ended` calls it off.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        unfinished = ", ".join(sorted(_where(task.get_coro()) for task in asyncio.all_tasks(loop)))
        log.error(
            "not finished after %g s, ends now; still at: %s",
            timeout_secs,
            unfinished or "a thread",
        )
        os._exit(1)

    timer = threading.Timer(timeout_secs, end)
    timer.daemon = True
    timer.start()
    ended.callback(timer.cancel)


def _where(coroutine: object) -> str:
    """The coroutines that wait for one another, from the outermost."""
    name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
    inner = getattr(coroutine, "cr_await", None)
    return f"{name} > {_where(inner)}" if hasattr(inner, "cr_await") else name
