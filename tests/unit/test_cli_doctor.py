"""`sgaps doctor`: it names what it looked at, and fails where something is not well."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from ports import free_port
from sgaps.messages import SegmentSealed
from sgaps_cli import broker, data_folder, doctor
from sgaps_cli.acl import ACL_FILE, write_acl
from sgaps_cli.data_folder import Running
from sgaps_cli.doctor import gateway, system
from sgaps_cli.doctor.containers import published_url
from sgaps_cli.doctor.finding import Finding
from sgaps_cli.doctor.streams import Look, streams_found
from unit.asked_doctor import Asked, answers_of, bad_lines, http_server

pytestmark = pytest.mark.usefixtures("alone")

LOOKED_AT = ("Python", "package torch", "package vizdoom", "settings", "broker", "data folder")


def test_a_machine_that_is_well(asked: Asked) -> None:
    code, said = asked()
    assert bad_lines(said) == []
    assert code == 0
    for what in LOOKED_AT:
        assert f"ok   {what}" in said
    assert "none runs; sgaps up starts one" in said


def test_a_broker_is_found_that_reads_what_is_in_the_data_folder(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `sgaps up` finds it; a Redis ends at once over what a Valkey wrote."""
    redis = tmp_path / "bin" / "redis-server"
    redis.parent.mkdir()
    redis.write_text("#!/bin/sh\necho Redis server v=7.0.15 bits=64\n")
    redis.chmod(0o755)
    monkeypatch.setenv("PATH", str(redis.parent))
    assert "broker: redis-server can be started" in asked()[1]
    base = asked.data_dir / "broker" / "appendonlydir" / "appendonly.aof.1.base.rdb"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"VALKEY080\xfa\x0avalkey-ver")
    assert "broker: valkey-server can be started" in asked()[1]


DEPLOYED = {
    **dict.fromkeys(
        ("redis", "gateway", "reconstructor", "sampler", "recorder"), "running Up 2 hours (healthy)"
    ),
    "secrets": "exited Exited (0) 2 hours ago",
}


@pytest.mark.parametrize(
    ("changed", "said_of_it"),
    [
        ({}, None),
        ({"gateway": "exited Exited (0) 2 minutes ago"}, "sgaps-gateway-1: Exited (0)"),
        ({"gateway": None}, "gateway: no container"),
        ({"sampler": "running Up 1 hour (unhealthy)"}, "sgaps-sampler-1: Up 1 hour (unhealthy)"),
        ({"trainer": "restarting Restarting (1) 3 seconds ago"}, "sgaps-trainer-1: Restarting"),
        (dict.fromkeys(DEPLOYED, "exited Exited (0) 1 hour ago"), None),
    ],
)
def test_a_container_that_ended_well_is_missing_all_the_same(
    changed: dict[str, str | None],
    said_of_it: str | None,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A program in Docker's place says what that would; tests/compose has the real one."""
    states = {name: state for name, state in (DEPLOYED | changed).items() if state}
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    lines = [
        msgspec.json.encode(
            {
                "Names": f"sgaps-{name}-1",
                "State": state.split()[0],
                "Status": state.partition(" ")[2],
                "Labels": f"com.docker.compose.project=sgaps,com.docker.compose.service={name}",
                "Ports": "",
            }
        ).decode()
        for name, state in states.items()
    ]
    docker.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    code, said = asked()
    assert code == int(said_of_it is not None)
    assert said_of_it is None or said_of_it in said


@pytest.mark.parametrize(
    ("env_file", "project"), [("", "sgaps"), ("COMPOSE_PROJECT_NAME=second\n", "second")]
)
def test_containers_are_those_of_the_project_that_compose_has(
    env_file: str, project: str, asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(env_file)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    asked()
    assert f"label=com.docker.compose.project={project} " in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("ports", "url"),
    [
        ("127.0.0.1:8123->8000/tcp", "http://127.0.0.1:8123"),
        ("0.0.0.0:80->8000/tcp, [::]:80->8000/tcp, 0.0.0.0:9->9/tcp", "http://127.0.0.1:80"),
        ("10.0.0.7:8000->8000/tcp", "http://10.0.0.7:8000"),
        ("8000/tcp, 9100/tcp", None),
        ("", None),
    ],
)
def test_a_deployment_is_looked_at_where_it_is_published(ports: str, url: str | None) -> None:
    labels = "com.docker.compose.project=sgaps,com.docker.compose.service="
    others = {"Labels": f"{labels}redis", "Ports": "127.0.0.1:1->8000/tcp"}
    containers = [others, {"Labels": f"{labels}gateway", "Ports": ports}]
    assert published_url(containers, "http") == url
    assert published_url(containers, "https") == (url and url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://127.0.0.1:1/0", "no answer from the broker"),
        ("nonsense", "names no broker"),
    ],
)
def test_a_broker_that_does_not_answer(
    url: str, why: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    code, said = asked()
    assert code == 1
    (line,) = bad_lines(said)
    assert "broker of REDIS_URL" in line
    assert why in line
    assert ("cure: start it, or unset REDIS_URL" in said) is (why != "names no broker")


@pytest.mark.parametrize("started_by", ["others", "sgaps up"])
def test_only_its_own_broker_is_started_again_by_a_sgaps_up(
    started_by: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "redis://127.0.0.1:1/0"
    if started_by == "others":
        monkeypatch.setenv("REDIS_URL", nobody)
    with http_server(answers_of({})) as url, data_folder.alone_in(asked.data_dir) as lock:
        own = nobody if started_by == "sgaps up" else None
        data_folder.tell(lock, Running(port=int(url.split(":")[-1]), broker_url=own))
        said = asked()[1]
    assert ("cure: it is started again by itself" in said) == (started_by == "sgaps up")
    assert ("cure: start it, or unset REDIS_URL" in said) == (started_by == "others")


def test_a_broker_that_answers(
    asked: Asked, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", broker_url)
    code, said = asked()
    assert code == 0
    assert "broker of REDIS_URL: answers" in said
    assert "broker version: 9." in said
    assert "broker append-only file: on" in said
    assert "broker eviction: noeviction" in said


def test_a_broker_that_would_lose_frames(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless = {"appendonly": "no", "maxmemory-policy": "allkeys-lru"}
    server = broker.start(
        broker.find_program(), tmp_path / "broker", log_file=tmp_path / "log", further=careless
    )
    try:
        monkeypatch.setenv("REDIS_URL", server.url)
        code, said = asked()
    finally:
        server.stop()
    assert code == 1
    append_only, eviction = bad_lines(said)
    assert "append-only file: off" in append_only
    assert "allkeys-lru" in eviction
    assert "cure: appendonly yes" in said
    assert "cure: maxmemory-policy noeviction" in said


def test_a_broker_with_users(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_acl(tmp_path / "acl")
    further = {"aclfile": str(tmp_path / "acl" / ACL_FILE)}
    server = broker.start(
        broker.find_program(), tmp_path / "broker", log_file=tmp_path / "log", further=further
    )
    codes = {}
    try:
        monkeypatch.setenv("REDIS_URL", server.url)
        for user in ("", "gateway", "monitor"):
            monkeypatch.setenv("SGAPS__BUS__USERNAME", user)
            if user:
                path = tmp_path / "acl" / f"{user}.password"
                monkeypatch.setenv("SGAPS__BUS__PASSWORD_FILE", str(path))
            codes[user], said = asked()
            assert (codes[user] == 0) or "cure: bus.username=monitor" in said
    finally:
        server.stop()
    assert codes == {"": 1, "gateway": 1, "monitor": 0}


@pytest.mark.parametrize(
    ("group", "pending_secs", "well"),
    [("recorder", 0.0, False), ("trainer", 0.0, True), ("trainer", 60.0, False)],
)
def test_what_waits_for_a_trainer_is_no_trouble(
    group: str, pending_secs: float, well: bool
) -> None:
    """It need not run; one that has something in hand for a minute is another matter."""
    look = Look(
        stream=SegmentSealed.STREAM,
        group=group,
        waiting=1,
        given_id="1-0",
        oldest_secs=3600.0,
        pending=1,
        pending_secs=pending_secs,
    )
    assert [finding.well for finding in streams_found([look])] == [well]


def test_a_missing_conf_folder(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGAPS_CONF_DIR", "/nowhere")
    # Without settings it looks at the usual port, where other tests may have a system.
    monkeypatch.setattr(doctor, "DEFAULT_URL", f"http://127.0.0.1:{free_port()}")
    code, said = asked()
    assert code == 1
    (line,) = bad_lines(said)
    assert "/nowhere" in line
    assert "ok   Python" in said  # the rest is told as well


def test_a_gateway_that_was_asked_for_must_be_there(asked: Asked) -> None:
    code, said = asked("--url", "http://127.0.0.1:1")
    assert code == 1
    (line,) = bad_lines(said)
    assert "gateway http://127.0.0.1:1: does not answer" in line
    assert "cure: start the system: sgaps up" in said


def test_what_answers_must_be_a_gateway(asked: Asked) -> None:
    with http_server({}) as url:
        code, said = asked("--url", url)
    assert code == 1
    assert "something else answers" in said


def test_a_gateway_without_its_broker(asked: Asked) -> None:
    trouble = {"detail": "the broker does not answer"}
    with http_server({"/api/status": trouble, "/api/ready": trouble}, status=503) as url:
        code, said = asked("--url", url)
    assert code == 1
    assert "the broker does not answer" in said
    assert f"cure: {system.BROKER_CURE}" in " ".join(said.split())


def test_a_gateway_that_refuses_the_name_it_is_asked_under(asked: Asked) -> None:
    refusal = {"detail": "this gateway has no token: set server.auth_token_file"}
    with http_server({"/api/status": refusal}, status=403) as url:
        code, said = asked("--url", url)
    assert code == 1
    assert bad_lines(said) == [f"bad  gateway {url}: answers nothing"]
    assert f"cure: {refusal['detail']}" in said


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_detail_of_another_server_is_no_trouble_of_the_gateway(asked: Asked, status: int) -> None:
    with http_server({"/api/status": {"detail": "Not Found"}}, status=status) as url:
        code, said = asked("--url", url)
    assert code == 1
    assert bad_lines(said) == [f"bad  gateway {url}: something else answers"]
    assert "cure: start the system" in said


@pytest.mark.parametrize("missing", [[], ["sampler", "recorder"]])
def test_a_running_system(asked: Asked, missing: list[str]) -> None:
    with http_server(answers_of({}, missing)) as url:
        code, said = asked("--url", url)
    assert code == (1 if missing else 0)
    assert "up 12 s" in said
    assert "gateway: 1 live, 1 ready; gateway-1 up 0 s" in said
    assert "trainer: none lives" in said
    assert bad_lines(said) == [f"bad  {name}: none lives; no heartbeat" for name in missing]


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "socks://x:1"])
def test_a_proxy_is_not_asked_for_this_machine(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    with http_server(answers_of({})) as url:
        assert asked("--url", url)[0] == 0
    if proxy.startswith("socks"):
        code, said = asked("--url", "http://192.0.2.1:8000")
        assert (code, "no_proxy to the gateway's host" in said) == (1, True)


def test_the_system_of_the_data_folder_is_looked_at_where_it_is(asked: Asked) -> None:
    """`sgaps up --port 9000` is not at the configured port."""
    with http_server(answers_of({})) as url, data_folder.alone_in(asked.data_dir) as lock:
        data_folder.tell(lock, Running(port=int(url.split(":")[-1])))
        assert f"gateway {url}: up 12 s" in asked()[1]


def work(before: dict[str, int], now: dict[str, int]) -> dict[str, Finding]:
    """What is said of the ledger where it was and is so; by name."""
    then, later = (system.Status(uptime_secs=1.0, services=[], ledger=c) for c in (before, now))
    return {finding.what: finding for finding in system.work_found(then, later, [])}


@pytest.mark.parametrize(
    ("before", "now", "bad", "cure"),
    [
        ({}, {"received": 9, "delivered": 10}, "ledger", "more ends than frames"),
        (
            {"dead_recorder": 1},
            {"received": 9, "delivered": 10, "dead_recorder": 1},
            "ledger",
            "more ends",
        ),
        (
            {"received": 900, "delivered": 900},
            {"received": 930, "delivered": 928, "superseded": 2},
            "drops: superseded",
            "start more",
        ),
        (
            {"received": 9},
            {"received": 9, "dead_recorder": 1},
            "drops: dead_recorder",
            "sgaps dead",
        ),
    ],
)
def test_a_ledger_tells_what_goes_wrong(
    before: dict[str, int], now: dict[str, int], bad: str, cure: str
) -> None:
    (found,) = (finding for finding in work(before, now).values() if not finding.well)
    assert found.what == bad
    assert cure in found.cure


def test_a_single_frame_that_is_dropped_is_well() -> None:
    now = {"received": 30, "delivered": 29, "superseded": 1}
    assert all(finding.well for finding in work({}, now).values())


def test_an_entry_that_was_no_frame_does_not_make_the_ledger_wrong_for_ever() -> None:
    """Somebody else wrote it: it was booked as dead, and never received."""
    counts = {"received": 9, "delivered": 9, "dead_sampler": 1}
    ledger = work(counts, counts)["ledger"]
    assert (ledger.well, ledger.detail) == (True, "9 received, 9 delivered, -1 in flight")


def test_what_went_wrong_once_is_told_and_no_more_wrong(asked: Asked) -> None:
    counts = {"received": 160, "delivered": 70, "superseded": 89, "dead_recorder": 1}
    with http_server(answers_of({"ledger": counts})) as url:
        code, said = asked("--url", url)
    assert bad_lines(said) == []
    assert code == 0
    assert "drops: superseded 89, dead_recorder 1, of all frames" in said


def test_replicas_that_differ_or_are_not_ready() -> None:
    def replica(instance: str, version: str, reason: str = "") -> system.ServiceSaid:
        return system.ServiceSaid(
            service="reconstructor",
            instance=instance,
            uptime_secs=100.0,
            ready=not reason,
            reason=reason,
            status={"serving": {"default": version}},
        )

    services = [replica("a", "v1"), replica("b", "v2", "its loop stands for 20 s")]
    status = system.Status(uptime_secs=1.0, services=services)
    found = {f.what: f for f in system.services_found(status, system.Ready(why={}))}
    assert not found["reconstructor"].well
    assert "2 live, 1 ready; a up 100 s; b: its loop stands" in found["reconstructor"].detail
    assert (found["model versions"].well, found["model versions"].detail) == (
        False,
        "default: v1, v2",
    )


def test_a_recorder_that_waits_or_does_not_write() -> None:
    def found(status: dict[str, object], received: int) -> Finding:
        recorder = system.ServiceSaid(service="recorder", instance="a", status=status)
        before = system.Status(uptime_secs=1.0, services=[], ledger={"received": 5})
        now = system.Status(uptime_secs=1.0, services=[recorder], ledger={"received": received})
        sessions = [system.Session(checkpoint_key="doom", connected=True)]
        told = {f.what: f for f in system.work_found(before, now, sessions)}
        assert not told["checkpoint of doom"].well
        return told["recording by a"]

    late: dict[str, object] = {"synced_at_secs": time.time() - 60}
    assert found(late, received=5).well  # nobody sends anything
    assert not found(late, received=6).well
    full = found({"waiting": "disk full: /data"}, received=5)
    assert (full.well, "free space" in full.cure) == (False, True)


@pytest.mark.parametrize(
    ("versions", "well", "detail"),
    [
        ({"doom": "v0007-1a2b3c4d", "default": "untrained"}, True, "v0007-1a2b3c4d"),
        ({"default": "untrained"}, False, "untrained"),
        ({}, False, "none"),
        ({"default": "telea"}, True, "none: reconstructor.method=telea needs none"),
    ],
)
def test_whether_a_session_has_a_checkpoint(
    versions: dict[str, str], well: bool, detail: str
) -> None:
    now = system.Status(uptime_secs=1.0, services=[], model_versions=versions)
    sessions = [system.Session(checkpoint_key="doom", connected=True)]
    told = {f.what: f for f in system.work_found(now, now, sessions)}["checkpoint of doom"]
    assert (told.well, told.detail) == (well, detail)


def test_what_metrics_tell() -> None:
    text = (
        "# TYPE sgaps_frames_received counter\nsgaps_frames_received_total 90\n"
        "# TYPE sgaps_messages_refused counter\n"
        'sgaps_messages_refused_total{code="rate_limited"} 10\n'
        "# TYPE sgaps_end_to_end_seconds histogram\n"
        'sgaps_end_to_end_seconds_bucket{le="0.5"} 90\n'
        'sgaps_end_to_end_seconds_bucket{le="2.5"} 96\n'
        'sgaps_end_to_end_seconds_bucket{le="+Inf"} 100\n'
    )
    refused, answers = system.metrics_found(text)
    assert (refused.well, refused.detail) == (False, "rate_limited 10")
    assert (answers.well, answers.detail.split(" since")[0]) == (False, "95 % within 2.5 s")


@pytest.mark.parametrize(
    ("off_secs", "well", "detail"),
    [
        (-1.0, True, "they agree within 3 s"),  # as far as can be told
        (3.0, True, "they agree within 3 s"),
        (4.0, False, "the gateway's is 4 s ahead of this machine's"),
        (-9.0, False, "the gateway's is 9 s behind this machine's"),
    ],
)
def test_clocks_are_off_where_that_can_be_told(off_secs: float, well: bool, detail: str) -> None:
    with httpx.Client(base_url="http://127.0.0.1:1") as client:
        (clocks,) = gateway._edge(client, off_secs, has_token=True)
    assert (clocks.what, clocks.well, clocks.detail) == ("clocks", well, detail)


def test_json_for_machines(asked: Asked) -> None:
    with http_server(answers_of({}, ["sampler"])) as url:
        code, said = asked("--url", url, "--json")
    told = msgspec.json.decode(said)
    assert (code, told["well"]) == (1, False)
    (bad,) = [finding for finding in told["findings"] if not finding["well"]]
    assert bad["what"] == "sampler"
    assert "docker compose up -d sampler" in bad["cure"]


@pytest.mark.parametrize(
    "url", ["foo", "ws://127.0.0.1:8000/ws/stream", "http://[bad", "http://:1"]
)
def test_what_is_no_address_is_not_told_to_start_a_system(asked: Asked, url: str) -> None:
    code, said = asked("--url", url)
    assert code == 1
    assert bad_lines(said) == [f"bad  gateway {url}: is no address"]
    assert "cure: --url http://host:port, such as" in said
