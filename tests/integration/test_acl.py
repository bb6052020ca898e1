"""A user for each service: together they do all the work, and each does nothing else."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis import exceptions as redis_errors

from integration.brokers import REDIS, VALKEY, program
from integration.conftest import with_changes
from integration.noise import Noise
from integration.processes import SERVICES, ending, start_service
from ports import free_port
from sgaps.bus import Ack, Count, Put, RedisBus
from sgaps.errors import BusRefused
from sgaps.settings import Settings
from sgaps_cli import acl, broker
from sgaps_client.player import PlayOptions, play
from tools import require_tool
from waiting import answers, wait_until

FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class GuardedBroker:
    url: str
    folder: Path

    def overrides(self, user: str) -> list[str]:
        return [
            f"bus.url={self.url}",
            f"bus.username={user}",
            f"bus.password_file={self.password_file(user)}",
        ]

    def password_file(self, user: str) -> Path:
        return self.folder / f"{user}.password"

    def as_user(self, user: str) -> Redis:
        password = self.password_file(user).read_text().strip()
        return Redis.from_url(self.url, username=user, password=password)


@pytest.fixture(scope="module", params=[VALKEY, REDIS])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedBroker]:
    folder = tmp_path_factory.mktemp("acl")
    acl.write_acl(folder)
    server = broker.start(
        program(request.param, folder),
        folder / "data",
        log_file=folder / "log",
        # Else the broker refuses DEBUG to all, and what this user may do is not asked.
        further={"aclfile": str(folder / acl.ACL_FILE), "enable-debug-command": "yes"},
    )
    yield GuardedBroker(url=server.url, folder=folder)
    server.stop()


def test_the_whole_pipeline_works_with_a_user_for_each_service(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    port = free_port()
    services = [
        start_service(name, [*guarded.overrides(name), f"server.port={port}"], tmp_path)
        for name in SERVICES
    ]
    url = f"http://127.0.0.1:{port}"
    with ending(services):
        wait_until(lambda: answers(f"{url}/api/ready"))
        options = PlayOptions(
            url=f"ws://127.0.0.1:{port}/ws/stream",
            checkpoint_key="noise",
            frames=FRAMES,
            session_frames=None,
            auth_token=None,
        )
        summary = asyncio.run(play(Noise(), options, stop=asyncio.Event()))
        ledger = httpx.get(f"{url}/api/status").json()["ledger"]
        for name in SERVICES:  # the trainer has much to import, and no part in the play
            wait_until(partial(_is_healthy, name))
        assert [service.end() for service in services] == [0] * len(SERVICES)
    assert (summary.sent, summary.accepted, summary.recorded) == (FRAMES, FRAMES, FRAMES)
    assert summary.answered > 0
    assert summary.psnr_db is not None  # pictures came through as well
    assert ledger["received"] == FRAMES
    assert ledger["in_flight"] == 0
    with guarded.as_user("admin") as admin:
        denied = [entry for entry in admin.acl_log() if entry["username"] in SERVICES]
        assert admin.xlen("sgaps:recordings") == 1  # sealed at the end, and announced
    assert denied == []


def _is_healthy(name: str) -> bool:
    command = [sys.executable, "-m", "sgaps.health", name, "instance=test"]
    return subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    ("user", "stream"),
    [
        ("gateway", "sgaps:coordinates:main"),
        ("reconstructor", "sgaps:frames"),
        ("sampler", "sgaps:reconstructions"),
        ("recorder", "sgaps:frames"),
        ("trainer", "sgaps:recordings"),
    ],
)
async def test_who_is_slow_may_keep_what_is_in_hand(
    user: str, stream: str, guarded: GuardedBroker, settings: Settings
) -> None:
    with guarded.as_user("admin") as admin:
        entry_id = str(admin.xadd(stream, {"m": b"x"}), "ascii")
    bus = bus_of(settings, guarded, user, user)
    await bus.ensure_group(stream, "slow")
    while await bus.read(stream, "slow", "x", count=9, block_secs=0):
        continue
    await asyncio.sleep(0.2)
    began_at_secs = time.monotonic()
    await bus.renew(stream, "slow", "x", [entry_id])
    (idle_secs,) = [
        row.idle_secs
        for row in await bus.pending(stream, "slow", count=99, min_idle_secs=0)
        if row.entry_id == entry_id
    ]
    assert idle_secs < time.monotonic() - began_at_secs + 0.1
    await bus.close()
    with guarded.as_user("admin") as admin:
        admin.delete(stream)


EVERYBODY = (*SERVICES, "monitor")
NOBODY_MAY = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "KEYS *",
    "DEBUG SLEEP 0",
    "SCRIPT FLUSH",
    "FUNCTION LIST",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "CLIENT LIST",
    "CLIENT KILL ID 1",
    "ACL LIST",
    "ACL SETUSER recorder +@all",
    "REPLICAOF 127.0.0.1 1",
    "MODULE LIST",
    "SAVE",
    "SUBSCRIBE x",
    "DEL sgaps:frames",
    "UNLINK sgaps:recordings",
    "RENAME sgaps:frames sgaps:dead",
    "XGROUP DESTROY sgaps:frames recorder",
    "XGROUP SETID sgaps:frames recorder $",
    "XDEL sgaps:frames 1-1",
    "PEXPIRE sgaps:frames 1",
    "SET sgaps:ledger 1",
    "HSET sgaps:ledger received 0",
    "GET something",
    "SET something 1",
)
FORBIDDEN = [
    *((user, command) for user in EVERYBODY for command in NOBODY_MAY),
    ("gateway", "XREADGROUP GROUP recorder x STREAMS sgaps:frames >"),
    ("gateway", "XRANGE sgaps:frames - +"),
    ("gateway", "XTRIM sgaps:frames MAXLEN 0"),
    ("gateway", "XACK sgaps:frames recorder 1-1"),
    ("gateway", "XADD sgaps:checkpoints * m x"),
    ("gateway", "XADD sgaps:coordinates:main * m x"),
    ("gateway", "XREAD STREAMS sgaps:recordings 0"),
    ("gateway", "XREAD STREAMS sgaps:coordinates:main 0"),
    ("gateway", "HSET sgaps:heartbeat:reconstructor:x serving x"),
    ("reconstructor", "XADD sgaps:frames * m x"),
    ("reconstructor", "XTRIM sgaps:frames MAXLEN 0"),
    ("reconstructor", "XADD sgaps:coordinates:main * m x"),
    ("reconstructor", "XADD sgaps:checkpoints * m x"),
    ("reconstructor", "XREAD STREAMS sgaps:recordings 0"),
    ("reconstructor", "LPUSH sgaps:history:x y"),
    ("reconstructor", "HGETALL sgaps:session:x"),
    ("sampler", "XADD sgaps:frames * m x"),
    ("sampler", "XRANGE sgaps:frames - +"),
    ("sampler", "XREADGROUP GROUP recorder x STREAMS sgaps:frames >"),
    ("sampler", "XTRIM sgaps:frames MAXLEN 0"),
    ("sampler", "XREAD STREAMS sgaps:coordinates:main 0"),
    ("sampler", "HGETALL sgaps:session:x"),
    ("sampler", "SCAN 0"),
    ("recorder", "XADD sgaps:frames * m x"),
    ("recorder", "XADD sgaps:reconstructions * m x"),
    ("recorder", "XADD sgaps:checkpoints * m x"),
    ("recorder", "XTRIM sgaps:coordinates:main MAXLEN 0"),
    ("recorder", "XACK sgaps:coordinates:main gateway 1-1"),
    ("recorder", "XREAD STREAMS sgaps:dead 0"),
    ("recorder", "XREAD STREAMS sgaps:views:x 0"),
    ("recorder", "HSET sgaps:heartbeat:gateway:x ready 1"),
    ("recorder", "HGETALL sgaps:session:x"),
    ("recorder", "LRANGE sgaps:history:x 0 -1"),
    ("trainer", "XREADGROUP GROUP recorder x STREAMS sgaps:frames >"),
    ("trainer", "XADD sgaps:recordings * m x"),
    ("trainer", "XREAD STREAMS sgaps:reconstructions 0"),
    ("trainer", "XRANGE sgaps:dead - +"),
    ("monitor", "XADD sgaps:frames * m x"),
    ("monitor", "XRANGE sgaps:frames - +"),
    ("monitor", "XINFO STREAM sgaps:frames FULL"),
    ("monitor", "HGETALL sgaps:session:x"),
    ("monitor", "HINCRBY sgaps:ledger received 1"),
    ("monitor", "EVAL return 0"),
]


@pytest.mark.parametrize("user", EVERYBODY)
def test_nobody_may_do_what_is_not_its_work(user: str, guarded: GuardedBroker) -> None:
    allowed = []
    with guarded.as_user(user) as redis:
        for command in (command for who, command in FORBIDDEN if who == user):
            if not _is_refused(redis, command.split()):
                allowed.append(command)
    assert allowed == []


@pytest.mark.parametrize(
    ("user", "key", "call"),
    [
        ("sampler", "sgaps:reconstructions", "'XADD', KEYS[1], '*', 'm', 'x'"),
        ("sampler", "sgaps:coordinates:main", "'XRANGE', KEYS[1], '-', '+'"),
        ("sampler", "sgaps:coordinates:main", "'XADD', 'sgaps:frames', '*', 'm', 'x'"),
        ("reconstructor", "sgaps:frames", "'DEL', KEYS[1]"),
        ("recorder", "sgaps:frames", "'FLUSHALL'"),
        ("trainer", "sgaps:dead", "'XRANGE', KEYS[1], '-', '+'"),
    ],
)
def test_a_script_may_do_no_more_than_its_user(
    user: str, key: str, call: str, guarded: GuardedBroker
) -> None:
    with (
        guarded.as_user(user) as redis,
        pytest.raises(
            redis_errors.ResponseError, match=r"(?i)acl failure|user executing the script can't"
        ),
    ):
        redis.eval(f"return redis.call({call})", 1, key)


async def test_what_may_not_be_done_to_its_end_is_not_begun(
    guarded: GuardedBroker, settings: Settings
) -> None:
    """As with users that an earlier release wrote: the answer would be lost, yet acknowledged."""
    with guarded.as_user("admin") as admin:
        admin.execute_command("ACL SETUSER sampler CLEARSELECTORS ~* +@all -hget")
        bus = bus_of(settings, guarded, "sampler", "sampler")
        try:
            await bus.ensure_group("stream", "group")
            entry_id = str(admin.xadd("stream", {"m": b"x"}), "ascii")
            assert await bus.read("stream", "group", "x", count=1, block_secs=0)
            answer = Put("set", {"frame": b"1"}, 9, rising="frame")
            with pytest.raises(BusRefused, match=r"HGET of set.*sgaps acl"):
                await bus.write(Count("seen"), Ack("stream", "group", [entry_id], [answer]))
            assert admin.xpending("stream", "group")["pending"] == 1
            assert "seen" not in await bus.ledger()
        finally:
            await bus.close()
            admin.delete("stream")
            admin.acl_load()


def test_the_exporter_is_refused_nothing(guarded: GuardedBroker) -> None:
    """Else each scrape writes into the log of the refused, and nothing else is found in it."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        require_tool("prometheus-redis-exporter", "prometheus-redis-exporter"),
        *(f"-redis.addr={guarded.url}", "-redis.user=monitor", "-config-command=-"),
        f"-web.listen-address={address}",
    ]
    password = guarded.password_file("monitor").read_text().strip()
    with guarded.as_user("admin") as admin:
        admin.acl_log_reset()
        with subprocess.Popen(command, env={**os.environ, "REDIS_PASSWORD": password}) as exporter:
            try:
                wait_until(lambda: answers(f"http://{address}/health"))
                told = httpx.get(f"http://{address}/metrics").text
            finally:
                exporter.terminate()
        assert "\nredis_up 1\n" in told
        assert admin.acl_log() == []


@pytest.mark.parametrize("user", SERVICES)
def test_a_script_names_no_other_keys(user: str, guarded: GuardedBroker) -> None:
    with guarded.as_user(user) as redis:
        assert _is_refused(redis, ["EVAL", "return 0", "1", "sgaps:checkpoints"])


def _is_refused(redis: Redis, command: Sequence[str]) -> bool:
    try:
        redis.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis_errors.NoPermissionError:
        return True
    except redis_errors.ResponseError as error:
        pytest.fail(f"{command} is no command: {error}")
    return False


def test_without_a_user_there_is_nothing(guarded: GuardedBroker) -> None:
    with Redis.from_url(guarded.url) as redis, pytest.raises(redis_errors.AuthenticationError):
        redis.ping()


def bus_of(settings: Settings, guarded: GuardedBroker, user: str, password_of: str) -> RedisBus:
    changes: dict[str, object] = {
        "url": guarded.url,
        "username": user,
        "password_file": guarded.password_file(password_of),
    }
    return RedisBus(with_changes(settings, bus=changes).bus)


async def test_a_refusal_is_told_from_a_missing_broker(
    guarded: GuardedBroker, settings: Settings
) -> None:
    stranger = bus_of(settings, guarded, "recorder", "sampler")
    with pytest.raises(BusRefused, match="invalid username-password"):
        await stranger.ping()
    await stranger.close()
    monitor = bus_of(settings, guarded, "monitor", "monitor")
    with pytest.raises(BusRefused, match="permission"):
        await monitor.write(Count("received"))
    await monitor.close()


def test_a_wrong_password_is_one_clear_line(guarded: GuardedBroker, tmp_path: Path) -> None:
    stolen = [f"bus.password_file={guarded.password_file('sampler')}"]
    recorder = start_service("recorder", [*guarded.overrides("recorder"), *stolen], tmp_path)
    with ending([recorder]):
        wait_until(lambda: "waiting" in recorder.said)
        assert recorder.end() == 0
    (line,) = recorder.lines("waiting for the broker")
    assert "refuses this user" in line
    assert "bus.password_file" in line
    assert "Traceback" not in recorder.said
    assert guarded.password_file("sampler").read_text().strip() not in recorder.said


def test_a_missing_password_is_a_wrong_setting(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    recorder = start_service("recorder", [f"bus.password_file={missing}"], tmp_path)
    with ending([recorder]):
        assert recorder.process.wait(30) == 2
    assert (
        recorder.said
        == f"recorder: bus.password_file {missing} cannot be read: No such file or directory\n"
    )


def test_the_files_are_for_their_owner_and_passwords_stay(tmp_path: Path) -> None:
    files = acl.write_acl(tmp_path / "acl")
    assert {path.name for path in files} == {
        acl.ACL_FILE,
        *(f"{user}.password" for user in (*EVERYBODY, "admin")),
    }
    rights = acl.ACL_FILE
    for path in files:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o644 if path.name == rights else 0o600)
        if path.name != rights:
            assert path.read_text().strip() not in (tmp_path / "acl" / rights).read_text()
    before = {path: path.read_text() for path in files}
    (tmp_path / "acl").chmod(0o755)  # a broker of another user reads its file there
    assert acl.write_acl(tmp_path / "acl") == [tmp_path / "acl" / rights]
    assert stat.S_IMODE((tmp_path / "acl").stat().st_mode) == 0o755
    assert {path: path.read_text() for path in files} == before
