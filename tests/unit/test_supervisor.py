"""The supervisor: it pauses longer each time a service ends soon, and ends when told to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgaps.settings import load_settings
from sgaps_cli import supervisor as supervisor_module
from sgaps_cli.supervisor import STEADY_SECS, Restarts, Supervised, Supervisor, local_services
from tools import require_tool
from waiting import PATIENCE_SECS, eventually, wait_until


@pytest.fixture
def failing(tmp_path: Path) -> Supervised:
    return Supervised(
        name="failing", module="no_such_module", overrides=(), log_file=tmp_path / "failing.log"
    )


def test_pauses_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now_secs = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_secs)
    restarts = Restarts()
    assert [restarts.pause_secs() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    restarts.started_at_secs = now_secs - STEADY_SECS - 1
    assert restarts.pause_secs() == 1


async def test_a_service_that_fails_is_started_again_until_told_to_stop(
    failing: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECS", 0.01)
    told: list[str] = []
    supervisor = Supervisor([failing], report=told.append)
    await supervisor.start()
    await eventually(lambda: failing.restarts.ends_in_a_row >= 3)
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECS", 60.0)
    started_at_secs = time.monotonic()
    await supervisor.stop()  # it may pause by now: that is not waited for
    assert time.monotonic() - started_at_secs < 30
    assert "failing ended with status 1, starting it again in 0.01 s" in told[0]
    assert failing.last_words().endswith("No module named no_such_module")


async def test_a_start_that_fails_is_tried_again(
    failing: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no memory for a moment."""
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECS", 0.01)
    told: list[str] = []
    supervisor = Supervisor([failing], report=told.append)
    await supervisor.start()
    spawn, tried = Supervised.spawn, 0

    async def spawn_the_third_time(service: Supervised) -> None:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise OSError(12, "Cannot allocate memory")
        await spawn(service)

    monkeypatch.setattr(Supervised, "spawn", spawn_the_third_time)
    await eventually(lambda: tried >= 4)
    await supervisor.stop()
    assert sum("cannot be started: [Errno 12]" in line for line in told) == 2


async def test_what_lets_frames_in_ends_first_and_what_keeps_them_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def stop(service: Supervised) -> None:
        told.append(f"{service.name} ends")
        await asyncio.sleep(0.01)
        told.append(f"{service.name} is gone")

    monkeypatch.setattr(Supervised, "stop", stop)
    services = [
        Supervised(name=name, module=name, overrides=(), log_file=tmp_path / "log")
        for name in supervisor_module.SERVICES
    ]
    await Supervisor(services, report=lambda _: None).stop()
    assert told[:2] == ["gateway ends", "gateway is gone"]
    assert {line.split()[1] for line in told[2:5]} == {"ends"}
    assert told[-2:] == ["recorder ends", "recorder is gone"]
    assert len(told) == 10


async def test_a_service_that_is_just_being_started_again_ends_too(
    failing: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop while the new process is made: nobody would tell that one."""
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECS", 0.01)
    spawn, is_spawning = Supervised.spawn, asyncio.Event()

    async def slowly(service: Supervised) -> None:
        if service.process is not None:
            service.module = "http.server"  # it runs until it is told to end
            service.overrides = ("0", "--bind", "127.0.0.1")
            is_spawning.set()
            await asyncio.sleep(0.2)
        await spawn(service)

    monkeypatch.setattr(Supervised, "spawn", slowly)
    supervisor = Supervisor([failing], report=lambda _: None)
    await supervisor.start()
    async with asyncio.timeout(PATIENCE_SECS):
        await is_spawning.wait()
        await supervisor.stop()
    assert failing.process is not None
    assert failing.process.returncode is not None


async def test_the_last_words_of_a_service_are_of_its_last_start(failing: Supervised) -> None:
    """Those of an earlier one are no reason why this one ended."""
    failing.log_file.write_text("stopped\n")
    failing.module, failing.overrides = "compileall", ("-q", str(failing.log_file.parent))
    await failing.spawn()
    assert failing.process is not None
    await failing.process.wait()
    assert failing.last_words().startswith("it said nothing, ")


def test_a_password_is_on_no_command_line(tmp_path: Path) -> None:
    services = local_services(
        port=1, redis_url="redis://:hush@h:1/0", data_dir=tmp_path, reconstructors=1, extra=()
    )
    assert len(services) == 5
    for service in services:
        assert "hush" not in " ".join(service.overrides)
        assert service.environment == {"REDIS_URL": "redis://:hush@h:1/0"}


@pytest.mark.parametrize("name", ["Jürgen (copy)/it's, a=b/~x", "~x", "a ${b} [c], {d: e}", "a\\"])
def test_the_data_may_be_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    services = local_services(
        port=1, redis_url="redis://h:1/0", data_dir=folder, reconstructors=1, extra=()
    )
    monkeypatch.setenv("REDIS_URL", "redis://h:1/0")
    for service in services:
        data = load_settings(service.overrides).data
        assert data.recordings_dir == folder / "recordings"
        assert data.checkpoints_dir == folder / "checkpoints"


def test_without_a_data_folder_it_is_where_the_settings_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = local_services(
        port=1, redis_url="redis://h:1/0", data_dir=None, reconstructors=1, extra=()
    )
    monkeypatch.setenv("REDIS_URL", "redis://h:1/0")
    monkeypatch.setenv("SGAPS__DATA__RECORDINGS_DIR", "/elsewhere")
    for service in services:
        data = load_settings(service.overrides).data
        assert data.recordings_dir == Path("/elsewhere")
        assert data.checkpoints_dir == Path("data/checkpoints")
        assert service.log_file.parent == Path("data/logs")


PARENT = """
import subprocess, sys, threading, time
from sgaps_cli.children import ends_with_us
for _ in range(100):  # the kernel tells a child of the end of each
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
child = subprocess.Popen(ends_with_us([sys.executable, "-c", *sys.argv[1:]]))
print(child.pid, flush=True)
time.sleep(60)
"""
SERVICE = """
import asyncio, contextlib, sys
from pathlib import Path
from sgaps import ending

async def main():
    ending.ONE_WISH_SECS = 600  # however slow the machine
    stop = asyncio.Event()
    with contextlib.ExitStack() as ended:
        ending.listen_to_signals(stop, ended, 600)
        Path(sys.argv[1]).write_text("runs")
        await stop.wait()
        await asyncio.sleep(0.5)
    Path(sys.argv[1]).write_text("ended in its order")

asyncio.run(main())
"""


def test_a_service_ends_in_its_order_when_its_parent_is_killed(tmp_path: Path) -> None:
    require_tool("setpriv", "util-linux")
    told = tmp_path / "told"
    command = [sys.executable, "-c", PARENT, SERVICE, str(told)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().decode().strip()
        wait_until(lambda: told.exists() and told.read_text() == "runs")
        parent.kill()
    wait_until(lambda: not (child / "exe").exists())  # a zombie has none either
    assert told.read_text() == "ended in its order"
