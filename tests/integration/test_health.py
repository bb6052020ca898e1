"""`python -m sgaps.health`: ready and alive are two answers, from a file, with no broker asked."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.processes import ending, start_service
from integration.toy_loop import Loop
from ports import free_port
from sgaps import health
from sgaps.service import ALIVE_WITHIN_SECS, TURN_WITHIN_SECS, turns_or_waits
from sgaps_cli import broker
from waiting import wait_until

CHECK = [sys.executable, "-m", "sgaps.health"]
HEAVY = ("asyncio", "json", "re", "argparse", "pydantic", "redis", "hydra", "numpy", "pathlib")


@pytest.fixture(autouse=True)
def temporary_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def asked(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*CHECK, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


def note(not_ready: str = "", *, instance: str = "test") -> Path:
    path = health.state_file("sampler", instance)
    health.write_state(path, not_ready=not_ready, not_alive="")
    return Path(path)


def test_two_questions_two_answers() -> None:
    note("it waits:\nthe broker is away")
    assert asked("sampler", "instance=test") == (1, "sampler: it waits: the broker is away")
    assert asked("sampler", "--alive", "instance=test") == (0, "sampler: alive")
    note()
    assert asked("sampler", "instance=test") == (0, "sampler: ready")
    code, said = asked("sampler", "instance=another")
    assert code == 1
    assert "no state of instance another" in said


def test_the_instance_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    note(instance="here")
    monkeypatch.setenv("SGAPS__INSTANCE", "here")
    assert asked("sampler") == (0, "sampler: ready")


@pytest.mark.parametrize("arguments", [[], ["--ready"], ["a", "b"], ["a", "bus.url=x"]])
def test_a_wrong_question_is_no_answer(arguments: list[str]) -> None:
    assert asked(*arguments) == (2, "")


def test_an_old_state_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    note()
    later_secs = time.monotonic() + health.STALE_SECS + 3
    monkeypatch.setattr(time, "monotonic", lambda: later_secs)
    assert health.why_not("sampler", "test", alive=True) == "it said nothing for 9 s"


def test_a_state_from_before_the_machine_started_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's folder outlives a reboot of its node, whose clock begins anew."""
    note()
    earlier_secs = time.monotonic() - 3600
    monkeypatch.setattr(time, "monotonic", lambda: earlier_secs)
    assert "from before" in health.why_not("sampler", "test", alive=True)


def test_the_file_is_private_and_no_link_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path = Path(health.state_file("sampler", "test"))
    path.symlink_to(victim)
    Path(f"{path}.{os.getpid()}").symlink_to(victim)
    assert "can be read" in health.why_not("sampler", "test", alive=True)
    assert note() == path
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_ISREG(path.lstat().st_mode)
    assert victim.read_text() == "untouched"
    assert sorted(tmp_path.iterdir()) == sorted([victim, path])


def test_what_is_no_state_is_not_believed(tmp_path: Path) -> None:
    path = Path(health.state_file("sampler", "test"))
    for content in (b"", b"\xff\n\n", b"soon\n\n", b"1e400"):
        path.write_bytes(content)
        assert health.why_not("sampler", "test", alive=False)
    path.unlink()
    os.mkfifo(path)
    assert "not a file of this user" in health.why_not("sampler", "test", alive=False)


def test_the_check_imports_next_to_nothing() -> None:
    code = f"import sgaps.health, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    bare = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    imported, before = (
        subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout
        for c in (code, bare)
    )
    assert imported == before


def test_a_loop_lives_while_it_turns_or_waits() -> None:
    loop = Loop()
    loop.last_turn_at_secs = time.monotonic() - TURN_WITHIN_SECS - 1
    why_dead = turns_or_waits(loop)
    assert why_dead() == ""
    loop.last_turn_at_secs = time.monotonic() - ALIVE_WITHIN_SECS - 5
    assert why_dead() == "its loop stands for 65 s"
    loop.waiting_for = "no answer from the broker"
    assert why_dead() == ""
    loop.last_turn_at_secs, loop.waiting_for = time.monotonic(), ""
    loop.fails_for_secs = ALIVE_WITHIN_SECS + 1
    assert why_dead() == "all that it tried failed for 61 s: see its log"


def test_a_service_without_its_broker_lives_and_is_not_ready(tmp_path: Path) -> None:
    port = free_port()
    sampler = start_service(
        "sampler", [f"bus.url=redis://127.0.0.1:{port}/0", "bus.block_secs=0.2"], tmp_path
    )
    with ending([sampler]):
        wait_until(lambda: asked("sampler", "--alive", "instance=test")[0] == 0)
        assert asked("sampler", "instance=test") == (1, "sampler: it waits for the broker")
        server = broker.start(
            broker.find_program(), tmp_path / "broker", log_file=tmp_path / "log", port=port
        )
        wait_until(lambda: asked("sampler", "instance=test")[0] == 0)
        server.stop()
        wait_until(lambda: asked("sampler", "instance=test")[0] == 1)
        time.sleep(health.STALE_SECS)
        code, said = asked("sampler", "instance=test")
        assert code == 1
        assert "it waits: no answer from the broker" in said
        assert asked("sampler", "--alive", "instance=test") == (0, "sampler: alive")
        sampler.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: "said nothing for" in asked("sampler", "--alive", "instance=test")[1])
        sampler.process.send_signal(signal.SIGCONT)
        assert sampler.end() == 0
    assert not Path(health.state_file("sampler", "test")).exists()
