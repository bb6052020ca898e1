"""`sgaps up` tells at once what it cannot start with."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lost_output import Closed, Full
from ports import free_port
from sgaps.errors import SourceError
from sgaps.settings import load_settings
from sgaps.terminal import dispensable
from sgaps_cli import broker, data_folder, supervisor, up
from sgaps_cli.browser import look_at
from sgaps_cli.data_folder import Running
from sgaps_command import run_here
from waiting import PATIENCE_SECS, eventually

Refusal = Callable[..., str]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Refusal:
    """Runs the command, which must not get so far as to start a service; what it says."""

    def run(*arguments: str) -> str:
        done = run_here("up", "--no-browser", *arguments)
        assert done.returncode == 1
        return done.stderr

    def no_services(**_: object) -> None:
        raise AssertionError("it starts")

    monkeypatch.setattr(up, "local_services", no_services)
    monkeypatch.setenv("SGAPS__SERVER__PORT", str(free_port()))  # the guides run at the default one
    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    ("override", "cure"),
    [
        ("server.host=0.0.0.0", "server.auth_token_file"),
        ("server.auth_token_file=/no/such/file", "/no/such/file"),
        ("server.prt=1", "server.prt"),
        ("server={tls_certificate:/c,tls_key:/k}", "TLS"),
        ("server.port=0", "--port"),
        ("server.host=192.168.7.7", "start the services one by one"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_starts(
    override: str, cure: str, refusal: Refusal, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert cure in refusal("--data-dir", str(data), "--set", override)
    assert not data.exists()


@pytest.mark.parametrize(
    ("source", "cure"),
    [
        ("atari/pnog", "the games are"),
        ("видео", "rename it, or play it with sgaps play --key"),
        ("no.mp4", "give"),
        ("~nobody-here/a.mp4", "there is no"),
    ],
)
def test_a_source_that_is_none_is_told_before_anything_starts(
    source: str, cure: str, refusal: Refusal, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert cure in refusal("--data-dir", str(data), "--play", source)
    assert not data.exists()


@pytest.mark.parametrize("name", ["a file", "a file/folder"])
def test_a_data_folder_that_cannot_be_made_is_told(
    name: str, refusal: Refusal, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    said = refusal("--data-dir", str(tmp_path / name))
    assert "Not a directory; choose another folder with --data-dir" in said


def test_a_data_folder_that_cannot_be_written_is_told(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / data_folder.LOCK_FILE).mkdir()
    said = refusal("--data-dir", str(tmp_path))
    assert "Is a directory; choose another folder with --data-dir" in said


@pytest.mark.parametrize(
    ("in_the_way", "reason"),
    [("broker", "[Errno 17] File exists"), ("logs/broker.log", "[Errno 21] Is a directory")],
)
def test_a_broker_that_has_no_place_is_told(
    in_the_way: str, reason: str, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    path = tmp_path / in_the_way
    path.parent.mkdir(exist_ok=True)
    path.touch() if path.name == "broker" else path.mkdir()
    said = refusal("--data-dir", str(tmp_path))
    assert said == f"sgaps: the broker cannot be started: {reason}: '{path}'\n"


def test_where_nobody_reads_any_more_the_end_has_its_order() -> None:
    """`sgaps up | tee log`: Ctrl-C ends both, and rich would end us before our services."""
    Console(file=dispensable(Closed())).print("stopping…")


class _Ascii(io.StringIO):
    def write(self, text: str) -> int:
        return len(text.encode("ascii"))


@pytest.mark.parametrize("file", [Full(), _Ascii()])
async def test_a_service_is_started_again_though_that_cannot_be_told(
    file: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECS", 0.01)
    failing = supervisor.Supervised(
        name="échec", module="no_such_module", overrides=(), log_file=tmp_path / "log"
    )
    report = Console(file=dispensable(file)).print
    running = supervisor.Supervisor([failing], report=report)
    await running.start()
    await eventually(lambda: failing.restarts.ends_in_a_row >= 3, timeout_secs=30)
    await running.stop()


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def told_to_stop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[supervisor.Supervisor]]:
    """A system without services, told to stop as soon as it is ready; those that were stopped."""
    stopped: list[supervisor.Supervisor] = []

    async def ready(*_: object) -> None:
        os.kill(os.getpid(), request.param)
        await asyncio.sleep(0.1)

    async def start(running: supervisor.Supervisor) -> None:
        running.report("x ended (its log: /a[b]/c[/q])")

    async def stop(running: supervisor.Supervisor) -> None:
        stopped.append(running)

    monkeypatch.setattr(up, "_wait_until_ready", ready)
    monkeypatch.setattr(supervisor.Supervisor, "start", start)
    monkeypatch.setattr(supervisor.Supervisor, "stop", stop)
    before = signal.signal(request.param, lambda *_: None)  # nothing that ends these tests
    yield stopped
    signal.signal(request.param, before)


async def _run_with(console: Console) -> None:
    ours = broker.Broker(url="redis://h:1/0", origin="ours", process=subprocess.Popen(["true"]))
    options = up.UpOptions(
        port=None, data_dir=None, browser=False, play=None, reconstructors=1, overrides=()
    )
    async with asyncio.timeout(PATIENCE_SECS):
        await up._run(options, load_settings(), ours, console)


async def test_services_are_stopped_though_that_cannot_be_told(
    told_to_stop: list[supervisor.Supervisor],
) -> None:
    class Failing(Console):
        def print(self, *objects: Any, **_: Any) -> None:
            if objects[0] == "stopping…":
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await _run_with(Failing())
    assert told_to_stop


@pytest.mark.usefixtures("told_to_stop")
async def test_a_path_with_brackets_is_told_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=200)
    await _run_with(console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "its log: /a[b]/c[/q]" in said


def test_in_a_pipe_a_line_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the data was broken after 80 columns."""
    line = f"data      /{'a long way/' * 20}"

    async def run(*parts: object) -> None:
        console = parts[-1]
        assert isinstance(console, Console)
        console.print(line, highlight=False, markup=False)

    monkeypatch.setattr(up, "_run", run)
    monkeypatch.setenv("REDIS_URL", "redis://h:1/0")
    monkeypatch.chdir(tmp_path)
    done = run_here("up", "--port", free_port())
    assert done.stdout.splitlines()[1:] == [line, "stopped"]


def test_nobody_waits_for_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the terminal ends when its user has looked at the page."""
    opened, looked = threading.Event(), threading.Event()

    def browser(page: str) -> None:
        assert page == "http://127.0.0.1:8000/"
        opened.set()
        looked.wait(60)

    monkeypatch.setattr(webbrowser, "open", browser)
    look_at("http://127.0.0.1:8000/")
    assert opened.wait(10)
    looked.set()


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("configured", ["environment", "--set", "--port"])
def test_the_port_is_the_one_that_was_asked_for(
    configured: str, port_in_use: int, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {
        "environment": [],
        "--set": ["--set", f"server.port={port_in_use}"],
        "--port": ["--port", str(port_in_use)],
    }
    monkeypatch.setenv(
        "SGAPS__SERVER__PORT", str(port_in_use) if configured == "environment" else "1"
    )
    assert f"port {port_in_use} is in use" in refusal(*named[configured])


@pytest.mark.parametrize("override", ["server.port=9000", "server={port:9000}"])
def test_two_ports_are_refused(override: str, refusal: Refusal) -> None:
    said = refusal("--port", "8123", "--set", override)
    assert "--port 8123 and --set server.port=9000" in said


def test_a_data_folder_has_one_system(refusal: Refusal, tmp_path: Path) -> None:
    with data_folder.alone_in(tmp_path):
        said = refusal("--port", str(free_port()), "--data-dir", str(tmp_path))
    assert f"another sgaps up keeps its data in {tmp_path}" in said
    assert "--data-dir" in said
    assert not (tmp_path / "broker").exists()


HOLDER = """
import pathlib, sys, time
from sgaps_cli.data_folder import Running, alone_in, tell
with alone_in(pathlib.Path(sys.argv[1])) as lock:
    tell(lock, Running(port=8123))
    print("it has the folder", flush=True)
    time.sleep(60)
"""


def test_a_killed_system_leaves_its_data_folder_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(data_folder.FolderTaken), data_folder.alone_in(tmp_path):
            pass
        assert data_folder.running_in(tmp_path) == Running(port=8123)
        holder.kill()
    assert data_folder.running_in(tmp_path) is None
    with data_folder.alone_in(tmp_path) as lock:
        assert data_folder.running_in(tmp_path) is None  # it has not told yet
        data_folder.tell(lock, Running(port=8))
        assert data_folder.running_in(tmp_path) == Running(port=8)


async def test_a_demo_that_fails_leaves_the_system_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def failing(*_: object, **__: object) -> None:
        raise SourceError("1.png is [no picture]")

    monkeypatch.setattr(up, "play_with_line", failing)
    monkeypatch.setattr(up, "open_anew", lambda *_: None)
    options = up.UpOptions(
        port=None,
        data_dir=None,
        browser=False,
        play="doom/my_way_home",
        reconstructors=1,
        overrides=(),
    )
    stop, console = asyncio.Event(), Console(file=io.StringIO(), width=200)
    working = asyncio.create_task(up._work(options, load_settings().server, stop, console))
    done, _ = await asyncio.wait({working}, timeout=0.2)
    assert not done
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the source ended: 1.png is [no picture]; the system runs on until Ctrl-C" in said
    stop.set()
    await working


def test_an_old_broker_is_told_before_a_service_starts(
    broker_url: str, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", broker_url)
    monkeypatch.setattr(broker, "MIN_BROKER_VERSION", 8)
    said = refusal("--port", str(free_port()))
    assert "is Redis 7.2" in said
    assert "unset REDIS_URL" in said


def test_a_broker_that_never_answers_is_named_with_its_cure(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(up, "READY_TIMEOUT_SECS", 0.5)
    said = refusal("--port", str(free_port()))
    assert "no answer from the broker" in said
    assert "start it, or unset REDIS_URL" in said
