"""`sgaps doctor` asked in this process, and a server for it to look at."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import trustme

from sgaps_command import run_here


@dataclass(frozen=True)
class Asked:
    """Runs the command in this process."""

    data_dir: Path

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = run_here("doctor", "--data-dir", self.data_dir, *arguments)
        return done.returncode, done.stdout


def bad_lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("bad")]


@contextmanager
def http_server(
    answers: dict[str, object],
    *,
    status: int = 200,
    token: str | None = None,
    certificate: trustme.LeafCert | None = None,
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
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


NEEDED = ("gateway", "reconstructor", "sampler", "recorder")


def answers_of(status: dict[str, object], missing: Sequence[str] = ()) -> dict[str, object]:
    """Of a system in which all that is needed lives but what is missing."""
    services = [{"service": n, "instance": f"{n}-1"} for n in NEEDED if n not in missing]
    return {
        "/api/status": {"uptime_secs": 12.3, "services": services, **status},
        "/api/ready": {"ready": not missing, "why": dict.fromkeys(missing, "no heartbeat")},
    }
