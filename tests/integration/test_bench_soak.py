"""`sgaps bench soak`: what it compares, and a short one, whose figures mean nothing."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from ports import free_port
from sgaps_cli.bench.soak import INTERVALS, Look, Soak, bench_soak, look_at, played, summed, told
from sgaps_cli.bench.soak_players import PLAYERS, Interval
from sgaps_cli.broker import BrokerError

INTERVAL = Interval(
    sessions=3, frames=100, answered=99, refused=0, views=10, p50_ms=5.0, p99_ms=9.0
)
LOOK = Look(memory_mib=100.0, cpu_secs=0.0, files=10, threads=2)


def soaked(*, mib_each: float = 0.0, secs_each: float = 0.0) -> Soak:
    """Memory, and the CPU of 100 frames (0.1 s at first), grow by so much with each interval."""
    looks = [
        replace(
            LOOK,
            memory_mib=100 + number * mib_each,
            cpu_secs=0.1 * number + secs_each * number * (number - 1) / 2,
        )
        for number in range(INTERVALS + 1)
    ]
    return summed(60, [INTERVAL] * INTERVALS, [{"gateway": look} for look in looks])


def test_what_stays_as_it_was_has_not_grown() -> None:
    soak = soaked()
    before, after = soak.processes["gateway"]
    assert before == after
    assert (after.memory_mib, after.cpu_ms_per_frame) == pytest.approx((100, 1))
    assert soak.grown == []
    assert (soak.sessions, soak.frames) == (3 * INTERVALS, 100 * INTERVALS)
    assert soak.answers[0].answered_percent == 99
    assert told(soak).endswith("Grown by more than 5% (memory) or 10% (CPU): nothing.")


def test_the_last_quarter_is_compared_with_the_second() -> None:
    soak = soaked(mib_each=1)
    before, after = soak.processes["gateway"]
    assert (before.memory_mib, after.memory_mib) == (107.5, 117.5)
    assert soak.grown == ["memory of gateway"]
    assert soaked(mib_each=0.5).grown == []


def test_dearer_frames_are_told() -> None:
    soak = soaked(secs_each=0.002)
    before, after = soak.processes["gateway"]
    assert (before.cpu_ms_per_frame, after.cpu_ms_per_frame) == pytest.approx((1.14, 1.34))
    assert soak.grown == ["CPU of gateway"]


def test_a_short_one() -> None:
    soak = bench_soak(minutes=0.05, real_model=False)
    assert list(soak.processes) == ["broker", "gateway", "reconstructor", "sampler", "recorder"]
    assert soak.sessions == PLAYERS
    assert soak.refused == 0
    for quarters in soak.processes.values():
        assert all(quarter.memory_mib > 5 and quarter.files > 3 for quarter in quarters)
    assert soak.answers[1].answered_percent > 0
    assert len(told(soak).splitlines()) == 2 + len(soak.processes) + 3


def test_a_service_that_ends_is_named() -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as one that was killed
        with pytest.raises(BrokerError, match="sampler ended"):
            look_at("sampler", ended.pid)
    with pytest.raises(BrokerError, match="sampler ended"):
        look_at("sampler", ended.pid)


def test_players_who_are_not_served_end_it() -> None:
    with pytest.raises(BrokerError, match=r"the players failed: .*Connect call failed"):
        next(played(f"ws://127.0.0.1:{free_port()}/ws/stream", 1))
