"""Commands while they begin: Ctrl-C is no traceback, nor is a package that is not there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
from pathlib import Path

import pytest

from sgaps_cli.begin import imported
from sgaps_command import SGAPS, run_here, run_process
from waiting import PATIENCE_SECS

SLOW = "print(*sys.argv[1:], flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("module", "code", "status"),
    [
        ("typer", SLOW, -signal.SIGINT),  # which the commands import
        ("trainer.evaluate", SLOW, -signal.SIGINT),
        (
            "trainer.evaluate",
            f"def main():\n try: {SLOW}\n except KeyboardInterrupt: return 130",
            130,
        ),
    ],
)
def test_ctrl_c_ends_it_however_far_it_is(
    module: str, code: str, status: int, tmp_path: Path
) -> None:
    path = tmp_path / f"{module.replace('.', '/')}.py"
    path.parent.mkdir(exist_ok=True)
    path.with_name("__init__.py").touch()
    path.write_text(f"import sys, time\n{code}\n")
    with subprocess.Popen(
        ["env", "--default-signal=INT", SGAPS, "evaluate", "--key", "k"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline().endswith("--key k\n")
        run.send_signal(signal.SIGINT)
        _, wrong = run.communicate(timeout=60)
    assert (run.returncode, wrong) == (status, "")


def closed_pipe() -> int:
    """Its end to write to; nobody reads the other one."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def evaluating(code: str, folder: Path) -> dict[str, str]:
    """The environment in which `sgaps evaluate` is this code."""
    (folder / "trainer").mkdir()
    (folder / "trainer/__init__.py").touch()
    (folder / "trainer/evaluate.py").write_text(code)
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("file", "wrong"), [("/dev/full", "sgaps: No space left on device\n"), ("a pipe", "")]
)
def test_what_cannot_be_printed_is_no_traceback(file: str, wrong: str, tmp_path: Path) -> None:
    code = "import sys\ndef main():\n sys.stdout.write('measured'); sys.stdout.flush()\n"
    env = evaluating(code, tmp_path)
    out = closed_pipe() if file == "a pipe" else os.open(file, os.O_WRONLY)
    done = subprocess.run(
        [SGAPS, "evaluate"],
        env=env,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(out)
    assert (done.returncode, done.stderr) == (1, wrong)


def test_what_a_terminal_has_no_letter_for_is_no_traceback(tmp_path: Path) -> None:
    """In the C locale the stream lets bytes of names through, and raises for anything else."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env = evaluating("def main():\n print('a\\u25cfb')\n", tmp_path) | plain
    done = run_process("evaluate", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\\u25cfb\n", "")


def test_a_name_that_is_no_text_stays_what_it_is_where_bytes_pass(tmp_path: Path) -> None:
    """As with LC_ALL=C, whose output Python has pass whatever bytes a name is."""
    env = evaluating("def main():\n print('x\\udcff')\n", tmp_path) | {"LC_ALL": "C"}
    done = subprocess.run([SGAPS, "evaluate"], env=env, capture_output=True, check=True)
    assert done.stdout == b"x\xff\n"


def test_a_terminal_that_is_closed_is_no_traceback(tmp_path: Path) -> None:
    code = "import time\ndef main():\n while True: print('a', flush=True); time.sleep(0.01)\n"
    env = evaluating(code, tmp_path)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [SGAPS, "evaluate"],
        env=env,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 1) == b"a"
    os.close(ours)
    _, told = process.communicate(timeout=PATIENCE_SECS)
    assert (process.returncode, told) == (1, b"")


def test_an_output_that_was_closed_before_is_no_traceback(tmp_path: Path) -> None:
    """As by `>&-`, or a service that gives its children none."""
    env = evaluating("def main():\n print('a')\n", tmp_path)
    closed = ["sh", "-c", 'exec "$0" evaluate >&-', str(SGAPS)]
    done = subprocess.run(closed, env=env, capture_output=True, check=False, timeout=PATIENCE_SECS)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_who_is_deaf_to_ctrl_c_stays_so(
    before: signal.Handlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"slow_{'deaf' if before is signal.SIG_IGN else 'hearing'}"
    code = "import signal\nMEANWHILE = signal.getsignal(signal.SIGINT)\n"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    usual = signal.signal(signal.SIGINT, before)
    try:
        meanwhile = imported(name).MEANWHILE
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, usual)
    assert meanwhile is (before if before is signal.SIG_IGN else signal.SIG_DFL)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_without_the_trainer_its_package_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the image of the command alone."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    done = run_here(command)
    assert done.returncode == 1
    assert "there is no package sgaps-trainer here" in done.stderr


def test_its_version_is_told() -> None:
    done = run_here("--version")
    assert (done.returncode, done.stdout) == (
        0,
        f"sgaps {importlib.metadata.version('sgaps-cli')}\n",
    )
