"""`sgaps doctor` on a gateway with a certificate or a token."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from sgaps_cli import data_folder
from sgaps_cli.data_folder import Running
from unit.asked_doctor import Asked, answers_of, bad_lines, http_server


def test_a_certificate_that_ends(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    ca_file = asked.data_dir.parent / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    ends = datetime.now(UTC) + timedelta(days=5, hours=1)
    certificate = authority.issue_cert("127.0.0.1", not_after=ends)
    with http_server(answers_of({}), certificate=certificate) as url:
        code, said = asked("--url", url)
        monkeypatch.delenv("SSL_CERT_FILE")
        unknown, why = asked("--url", url)
    assert code == 1
    assert bad_lines(said) == ["bad  certificate: ends in 5 days"]
    assert unknown == 1
    assert "name its authority's in SSL_CERT_FILE" in why


@dataclass(frozen=True)
class OwnTls:
    """A gateway of this machine that is configured for TLS."""

    authority: trustme.CA
    monkeypatch: pytest.MonkeyPatch

    def at(self, url: str) -> None:
        self.monkeypatch.setenv("SGAPS__SERVER__PORT", url.rpartition(":")[2])


@pytest.fixture
def own_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OwnTls:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.setenv(f"SGAPS__SERVER__TLS_{name}", str(tmp_path / name))
    return OwnTls(authority, monkeypatch)


def test_a_gateway_that_speaks_tls_is_asked_by_tls(asked: Asked, own_tls: OwnTls) -> None:
    code, said = asked()
    assert (code, "none runs; sgaps up starts one" in said) == (0, True)
    certificate = own_tls.authority.issue_cert("127.0.0.1")
    with http_server(answers_of({}), certificate=certificate) as url:
        own_tls.at(url)
        code, said = asked()
    assert code == 0
    assert f"ok   gateway {url}: up 12 s" in said
    assert "ok   certificate: ends in " in said


def test_a_certificate_of_another_name_is_told(asked: Asked, own_tls: OwnTls) -> None:
    certificate = own_tls.authority.issue_cert("game.example")
    with http_server(answers_of({}), certificate=certificate) as url:
        own_tls.at(url)
        code, said = asked()
        own_tls.monkeypatch.delenv("SSL_CERT_FILE")
        unknown, why = asked()
    assert code == 1
    (line,) = bad_lines(said)
    assert f"gateway {url}: its certificate is not accepted" in line
    assert "cure: name it as its certificate does: --url https://" in said
    assert unknown == 1
    assert "name its authority's in SSL_CERT_FILE" in why


def test_no_token_is_sent_in_plain_text_where_tls_is_configured(
    asked: Asked, own_tls: OwnTls
) -> None:
    answered: dict[str, object] = {}
    with http_server(answered, token="secret") as url:  # noqa: S106
        own_tls.at(url)
        code, said = asked("--token", "secret")
    assert code == 1
    (line,) = bad_lines(said)
    assert f"gateway {url.replace('http', 'https')}: does not answer" in line


def test_a_system_of_sgaps_up_speaks_no_tls(asked: Asked, own_tls: OwnTls) -> None:
    with http_server(answers_of({})) as url, data_folder.alone_in(asked.data_dir) as lock:
        data_folder.tell(lock, Running(port=int(url.split(":")[-1])))
        assert f"gateway {url}: up 12 s" in asked()[1]


def test_a_gateway_with_a_token(asked: Asked) -> None:
    with http_server(answers_of({}), token="secret") as url:  # noqa: S106
        without, with_it = asked("--url", url), asked("--url", url, "--token", "secret")
    assert (without[0], with_it[0]) == (1, 0)
    assert "cure: give its token with --token or in SGAPS_TOKEN" in without[1]


def test_a_token_that_no_gateway_has_is_not_told(asked: Asked) -> None:
    with http_server(answers_of({})) as url:
        code, said = asked("--url", url, "--token", "secret\n")
    assert code == 1
    assert bad_lines(said) == [f"bad  gateway {url}: cannot be asked"]
    assert "cure: the token has blanks or control characters" in said
    assert "secret" not in said
