"""Around a loop: a bounded and told end, honest readiness."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.processes import heartbeats
from integration.stuck_service import HANGS
from integration.toy_loop import Loop
from ports import free_port
from sgaps.health import why_not
from sgaps.service import HEARTBEAT_SECS, TURN_WITHIN_SECS, turns_lately
from sgaps.settings import Settings
from waiting import wait_until

HERE = Path(__file__).parent
STUCK = [sys.executable, str(HERE / "stuck_service.py")]


@pytest.mark.parametrize(
    ("behaviour", "code", "said"),
    [
        ("hangs", 1, "_run > main > Event.wait"),
        ("thread_hangs", 1, "not finished after 1 s"),
        ("fails", 1, "CRITICAL stuck sgaps.service: stuck ends: the disk is gone"),
        ("crashes", 1, "ZeroDivisionError"),
    ],
)
def test_the_end_is_bounded_and_told(
    behaviour: str, code: int, said: str, clean_broker: str
) -> None:
    command = [*STUCK, f"bus.url={clean_broker}", f"instance={behaviour}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = ""
        if behaviour.endswith("hangs"):  # the others end by themselves
            seen = _read_until_it_hangs(process)
            process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == code
    assert said in seen + rest
    assert ("Traceback" in seen + rest) is (behaviour == "crashes")


def test_a_second_signal_ends_it_at_once(clean_broker: str) -> None:
    command = [*STUCK, f"bus.url={clean_broker}", "instance=hangs_long"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        _read_until_it_hangs(process)
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        started_at_secs = time.monotonic()
        _, said = process.communicate(timeout=20)
    assert time.monotonic() - started_at_secs < 10
    assert process.returncode == 128 + signal.SIGINT
    assert "told twice" in said


def _read_until_it_hangs(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    seen = ""
    while HANGS not in seen:
        seen += process.stderr.readline()
    return seen


def test_a_loop_is_ready_once_it_turned_and_while_it_turns() -> None:
    loop = Loop()
    loop.last_turn_at_secs = time.monotonic()
    why_not = turns_lately(loop)
    assert why_not() == "its loop has not turned yet"
    loop.last_turn_at_secs = time.monotonic()
    assert why_not() == ""
    loop.last_turn_at_secs -= TURN_WITHIN_SECS + 5
    assert why_not() == "its loop stands for 15 s"
    loop.last_turn_at_secs = time.monotonic()
    loop.fails_for_secs = TURN_WITHIN_SECS + 1
    assert why_not() == "all that it tried failed for 11 s: see its log"
    loop.waiting_for = "the broker is out of memory"
    assert why_not() == "it waits: the broker is out of memory"


def test_readiness_is_in_the_heartbeat_and_the_health_check(
    clean_broker: str, settings: Settings
) -> None:
    command = [*STUCK, f"bus.url={clean_broker}", "instance=hangs"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        _read_until_it_hangs(process)
        wait_until(lambda: "stuck" in heartbeats(clean_broker, settings))
        time.sleep(2 * HEARTBEAT_SECS)
        heartbeat = heartbeats(clean_broker, settings)["stuck"]
        told = why_not("stuck", "hangs", alive=False), why_not("stuck", "hangs", alive=True)
        process.kill()
        process.communicate()
    assert (heartbeat.ready, heartbeat.reason) == (False, "it starts")
    assert told == ("it starts", "")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("server.host=0.0.0.0", "server.auth_token_file"),
        ("server.auth_token_file=/nowhere", "/nowhere cannot be read"),
        ("tracing.sample_ratio=2", "tracing.sample_ratio"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_broker_is_waited_for(
    override: str, said: str
) -> None:
    nobody = f"bus.url=redis://127.0.0.1:{free_port()}/0"
    done = subprocess.run(
        [sys.executable, "-m", "gateway", nobody, override],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "waiting" not in done.stderr
