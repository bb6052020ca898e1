"""TLS to the broker: its certificate is checked, and ours where it asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from integration.brokers import redis_program
from integration.conftest import with_changes
from integration.processes import ending, start_service
from ports import free_port
from sgaps.bus import Count, RedisBus
from sgaps.errors import BusUnavailable
from sgaps.settings import Settings
from sgaps_cli import broker
from waiting import wait_until


@dataclass(frozen=True, kw_only=True)
class TlsBroker:
    port: int
    ca_file: Path
    certificate_file: Path
    key_file: Path

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    def changes(self) -> dict[str, object]:
        return {
            "url": self.url,
            "tls_ca_file": self.ca_file,
            "tls_certificate_file": self.certificate_file,
            "tls_key_file": self.key_file,
        }


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    """A broker that speaks nothing but TLS, and only with those who have a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "server", "client")}
    authority.cert_pem.write_to_path(files["ca"])
    for name, identity in (("server", "127.0.0.1"), ("client", "recorder@sgaps.test")):
        authority.issue_cert(identity).private_key_and_cert_chain_pem.write_to_path(files[name])
    port = free_port()
    server = broker.start(
        redis_program(folder),
        folder / "data",
        log_file=folder / "log",
        port=port,
        further={
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": str(files["server"]),
            "tls-key-file": str(files["server"]),
            "tls-ca-cert-file": str(files["ca"]),
            "tls-auth-clients": "yes",
        },
    )
    yield TlsBroker(
        port=port,
        ca_file=files["ca"],
        certificate_file=files["client"],
        key_file=files["client"],
    )
    server.stop()


def bus_with(settings: Settings, changes: dict[str, object]) -> RedisBus:
    return RedisBus(with_changes(settings, bus=changes).bus)


async def test_the_bus_works_over_tls(tls_broker: TlsBroker, settings: Settings) -> None:
    bus = bus_with(settings, tls_broker.changes())
    await bus.write(Count("received", 2))
    assert (await bus.ledger())["received"] == 2
    await bus.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tls_ca_file": None}, "certificate verify failed"),
        ({"url": "rediss://localhost:{port}/0"}, "certificate verify failed"),
        ({"tls_certificate_file": None, "tls_key_file": None}, "no answer"),
        ({"url": "redis://127.0.0.1:{port}/0"}, "no answer"),
    ],
    ids=["an unknown authority", "another host's name", "no certificate of ours", "no TLS"],
)
async def test_who_cannot_be_checked_is_not_talked_to(
    change: dict[str, object], why: str, tls_broker: TlsBroker, settings: Settings
) -> None:
    changes = tls_broker.changes() | change
    changes["url"] = str(changes["url"]).format(port=tls_broker.port)
    if str(changes["url"]).startswith("redis://"):
        changes |= {"tls_ca_file": None, "tls_certificate_file": None, "tls_key_file": None}
    bus = bus_with(settings, changes)
    with pytest.raises(BusUnavailable, match=why):
        await bus.ping()
    await bus.close()


def test_a_service_works_over_tls(tls_broker: TlsBroker, tmp_path: Path) -> None:
    overrides = [f"bus.{name}={value}" for name, value in tls_broker.changes().items()]
    sampler = start_service("sampler", overrides, tmp_path)
    with ending([sampler]):
        wait_until(lambda: "starts" in sampler.said)
        assert sampler.end() == 0
    assert "waiting" not in sampler.said
