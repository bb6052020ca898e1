"""`sgaps replay` on the command line: it serves until Ctrl-C, and says what is wrong."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from replays import KEY, record, served
from sgaps.settings import load_settings
from sgaps_cli.replay import server
from sgaps_command import SGAPS, run_here


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_it_serves_until_ctrl_c_or_the_end_of_its_terminal(
    number: signal.Signals, tmp_path: Path
) -> None:
    record(tmp_path, "s", map(served, range(2)))
    command = [str(SGAPS), "replay", str(tmp_path), "--port", "0", "--no-browser"]
    with subprocess.Popen(
        ["env", "--default-signal=HUP", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", run.stdout.readline())
        assert found
        listed = httpx.get(f"{found[0]}api/catalog", timeout=300)
        assert [one["frames"] for one in listed.json()["recordings"]] == [2]
        run.send_signal(number)
        told, wrong = run.communicate(timeout=300)
    assert run.returncode == 0
    assert told.splitlines()[-1] == "stopped"
    assert wrong == ""


@pytest.mark.parametrize("name", ["[old] r", "x[/q]"])
def test_the_folder_is_named_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / name, "s", [served(0)])
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr(asyncio, "run", lambda running: running.close())
    server.serve(tmp_path / name, load_settings(), port=0, browser=False)
    assert f"recordings {tmp_path / name}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "cure"),
    [
        ("", "record something"),
        ("empty", "sgaps capture"),
        ("torn", "sgaps recordings repair"),
    ],
)
def test_without_a_recording_the_cure_is_named(made: str, cure: str, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    if made:
        root.mkdir()
    if made == "torn":
        record(root, "s", [served(0)]).write_bytes(b"torn")
    done = run_here("replay", root, "--no-browser", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("sgaps: ")
    assert cure in done.stderr
    assert str(root) in done.stderr


def test_a_folder_too_deep_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    record(tmp_path, "s", [served(0)])
    done = run_here("replay", tmp_path / KEY, "--no-browser", "--port", "0")
    assert done.returncode == 1
    assert "name the folder of <key>/<session>/" in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    record(tmp_path, "s", [served(0)])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_here("replay", tmp_path, "--port", port)
    assert done.returncode == 1
    assert f"port {port} cannot be used" in done.stderr
    assert "--port" in done.stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    record(tmp_path, "s", [served(0)])
    done = run_here("replay", tmp_path, "--set", "data.nothing=1")
    assert done.returncode == 1
    assert "data.nothing" in done.stderr


def test_no_other_command_loads_torch() -> None:
    script = "import sys, sgaps_cli.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
