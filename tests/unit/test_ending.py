"""What asks a process to end, and how one wish is told from two."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sgaps.ending import asked_or_insisted, end_signals


@pytest.fixture
def hung_up() -> Iterator[None]:
    """As in a terminal, in whatever way these tests were started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hung_up")
def test_a_terminal_that_is_closed_asks_for_an_end_unless_that_is_to_be_outlived() -> None:
    assert end_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert end_signals() == [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize(
    ("again", "after_secs", "insists"),
    [
        (signal.SIGTERM, 0.01, False),  # the end of another thread of a killed parent
        (signal.SIGHUP, 0.9, False),  # a shell passes it on
        (signal.SIGTERM, 1.5, True),
        (signal.SIGHUP, 1.5, True),
        (signal.SIGINT, 0.01, True),  # somebody presses Ctrl-C as fast as he can
    ],
)
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_asks_again_at_once_repeats_himself_but_at_a_keyboard(
    first: int, again: int, after_secs: float, insists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_secs = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_secs)
    asked: list[int] = []
    insisted: list[int] = []
    hear = asked_or_insisted(asked.append, insisted.append)
    hear(first)
    now_secs += after_secs
    hear(again)
    assert asked == [first]
    assert insisted == ([again] if insists else [])


BUSY = """
import asyncio, contextlib, sys
from sgaps import ending

async def main():
    ending.ONE_WISH_SECS = 600  # however slow the machine
    stop = asyncio.Event()
    with contextlib.ExitStack() as ended:
        ending.listen_to_signals(stop, ended, 600)
        print("runs", flush=True)
        await stop.wait()
        print("finishes", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    print("finished", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("again", "said", "status"),
    [(signal.SIGTERM, "finished\n", 0), (signal.SIGINT, "", 128 + signal.SIGINT)],
)
def test_a_service_that_is_told_the_same_twice_finishes(
    again: signal.Signals, said: str, status: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "runs\n"
        run.send_signal(signal.SIGTERM)
        assert run.stdout.readline() == "finishes\n"
        run.send_signal(again)
        if again == signal.SIGINT:
            run.wait()
        told, _ = run.communicate("\n" if again == signal.SIGTERM else None)
    assert (told, run.returncode) == (said, status)


DEAF_TO_THE_FIRST = """
import signal, time
from sgaps.ending import asked_or_insisted, end_by
hear = asked_or_insisted(lambda number: print(number, flush=True), end_by)
signal.signal(signal.SIGINT, lambda number, _: hear(number))
print("hears", flush=True)
time.sleep(60)
time.sleep(60)
"""


def test_who_insists_ends_it_as_if_nobody_had_listened() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF_TO_THE_FIRST], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "hears\n"
        run.send_signal(signal.SIGINT)
        assert run.stdout.readline() == f"{signal.SIGINT.value}\n"
        run.send_signal(signal.SIGINT)
    assert run.returncode == -signal.SIGINT
