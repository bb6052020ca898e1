"""`sgaps doctor`: it names what it looked at, and fails where something is not well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from sgaps_cli import broker
from sgaps_cli import main as cli
from sgaps_cli.acl import ACL_FILE, write_acl
from sgaps_cli.broker import free_port
from sgaps_cli.doctor import gateway, machine

SGAPS = Path(sys.executable).with_name("sgaps")
LOOKED_AT = ("Python", "package torch", "package vizdoom", "settings", "broker", "data folder")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker of this test run, and no system that happens to run on this machine."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(gateway, "DEFAULT_URL", f"http://127.0.0.1:{free_port()}")


class Asked:
    """Runs the command in this process."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path
    ) -> None:
        self._monkeypatch, self._capsys, self.data_dir = monkeypatch, capsys, data_dir

    def __call__(self, *arguments: str) -> tuple[object, str]:
        command = ["sgaps", "doctor", "--data-dir", str(self.data_dir), *arguments]
        self._monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, self._capsys.readouterr().out


@pytest.fixture
def asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Asked:
    return Asked(monkeypatch, capsys, tmp_path / "data")


def bad_lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("bad")]


@contextmanager
def http_server(
    answers: dict[str, object], *, status: int = 200, token: str | None = None
) -> Iterator[str]:
    """Something that answers at some addresses; its own address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = token is None or self.headers["Authorization"] == f"Bearer {token}"
            self.send_response(status if allowed else 401)
            self.end_headers()
            answer = answers.get(self.path, {}) if allowed else {"detail": "no token"}
            self.wfile.write(msgspec.json.encode(answer))

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_machine_that_is_well(asked: Asked) -> None:
    code, said = asked()
    assert bad_lines(said) == []
    assert code == 0
    for what in LOOKED_AT:
        assert f"ok   {what}" in said
    assert "none runs; sgaps up starts one" in said


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"redis://127.0.0.1:{free_port()}/0", "no answer from the broker"),
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


def test_settings_and_data_folder(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.data_dir.write_text("a file")
    code, said = asked()
    assert code == 1
    (line,) = bad_lines(said)
    assert "not writable" in line
    assert "--data-dir" in said
    monkeypatch.setenv("SGAPS__SERVER__PORT", "many")
    code, said = asked()
    assert code == 1
    assert "server.port" in bad_lines(said)[0]


def test_a_missing_conf_folder(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGAPS_CONF_DIR", "/nowhere")
    code, said = asked()
    assert code == 1
    (line,) = bad_lines(said)
    assert "/nowhere" in line
    assert "ok   Python" in said  # the rest is told as well


def test_a_missing_package(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.PACKAGES, "no_such_package", "pip install it[all]")
    code, said = asked()
    assert code == 1
    assert bad_lines(said) == ["bad  package no_such_package: missing"]
    assert "cure: pip install it[all]" in said


@pytest.mark.parametrize("url", ["nonsense", "http://[bad", "http://127.0.0.1:1"])
def test_a_gateway_that_was_asked_for_must_be_there(asked: Asked, url: str) -> None:
    code, said = asked("--url", url)
    assert code == 1
    (line,) = bad_lines(said)
    assert f"gateway {url}: does not answer" in line
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


@pytest.mark.parametrize("missing", [[], ["sampler", "recorder"]])
def test_a_running_system(asked: Asked, missing: list[str]) -> None:
    services = [{"service": "gateway", "instance": "local-1"}]
    answers: dict[str, object] = {
        "/api/status": {"uptime_secs": 12.3, "services": services},
        "/api/ready": {"ready": not missing, "why": dict.fromkeys(missing, "no heartbeat")},
    }
    with http_server(answers) as url:
        code, said = asked("--url", url)
    assert code == (1 if missing else 0)
    assert "up 12 s" in said
    assert "services: gateway local-1" in said
    assert ("sampler (no heartbeat), recorder (no heartbeat)" in said) is bool(missing)


def test_a_gateway_with_a_token(asked: Asked) -> None:
    answers: dict[str, object] = {
        "/api/status": {"uptime_secs": 12.3, "services": []},
        "/api/ready": {"ready": True, "why": {}},
    }
    with http_server(answers, token="secret") as url:  # noqa: S106
        without, with_it = asked("--url", url), asked("--url", url, "--token", "secret")
    assert (without[0], with_it[0]) == (1, 0)
    assert "cure: give its token with --token or in SGAPS_TOKEN" in without[1]


def test_the_command_fails_with_a_broker_gone(tmp_path: Path) -> None:
    environment = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = subprocess.run(
        [SGAPS, "doctor", "--data-dir", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "bad  broker of REDIS_URL" in done.stdout
    assert "Traceback" not in done.stderr
