"""The end of a process that a signal asks for, and of a service, which is bounded in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

ONE_WISH_SECS = 1.0
"""Within this the same wish may be told several times: by the kernel, which tells the child of a
killed process at the end of each of its threads, by `timeout`, which tells a process and then its
group, or by the kernel and a shell, of a terminal that was closed."""


def end_signals() -> list[signal.Signals]:
    """What asks for an end: Ctrl-C, `kill`, and a terminal that is closed, unless we are to outlive
    that (nohup)."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if outlives else [signal.SIGHUP])]


def asked_or_insisted(
    ask: Callable[[int], None], insist: Callable[[int], None]
) -> Callable[[int], None]:
    """To be called with every signal: the first asks, one of somebody who does not want to wait
    insists. Ctrl-C a second time is always such a one."""
    first_at_secs: float | None = None

    def hear(number: int) -> None:
        nonlocal first_at_secs
        now_secs = time.monotonic()
        if first_at_secs is None:
            first_at_secs = now_secs
            ask(number)
        elif number == signal.SIGINT or now_secs - first_at_secs > ONE_WISH_SECS:
            insist(number)

    return hear


def end_by(number: int) -> None:
    """End this process, by the signal, as if nobody had listened to it."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def listen_to_signals(stop: asyncio.Event, ended: contextlib.ExitStack, drain_secs: float) -> None:
    """The first signal asks the service to finish, in bounded time; a second one ends it."""
    loop = asyncio.get_running_loop()

    def finish(_: int) -> None:
        stop.set()
        end_within(drain_secs, ended)

    def end(number: int) -> None:
        log.warning("told twice to stop: ends at once")
        os._exit(128 + number)

    hear = asked_or_insisted(finish, end)
    for number in end_signals():
        loop.add_signal_handler(number, hear, number)


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
