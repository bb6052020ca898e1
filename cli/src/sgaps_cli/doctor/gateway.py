"""A running system, from outside: with its address and token alone."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from sgaps.errors import SettingsError
from sgaps_cli.doctor import system
from sgaps_cli.doctor.finding import TIMEOUT_SECS, Finding
from sgaps_client.address import http_client, is_loopback

DEFAULT_URL = "http://127.0.0.1:8000"
GATEWAY_CURE = "start the system: sgaps up, or name another with --url http://host:port"
TOKEN_CURE = "give its token with --token or in SGAPS_TOKEN"  # noqa: S105 - it is none
CLOCK_OFF_SECS = 3
"""The gateway tells whole seconds, which are a second old, and its answer takes a while: so much is
no difference that could be told."""
CERTIFICATE_DAYS = 14
BETWEEN_LOOKS_SECS = 3.0
"""One player's 30 frames: what happens to one of them alone is nothing yet."""

T = TypeVar("T")


class _TokenRefused(httpx.HTTPError):
    """The gateway wants a token, or another one."""


class _NameRefused(httpx.HTTPError):
    """The gateway has no token and is asked under a name; it says itself what to do."""


class _Trouble(httpx.HTTPError):
    """The gateway answers, and says that it cannot."""


def look_at_gateway(url: str, token: str | None, *, needed: bool) -> Iterator[Finding]:
    """The gateway and all that it knows. That none runs is well where it is not `needed`."""
    base = url.rstrip("/")
    what = f"gateway {base}"
    if not _is_address(base):
        cure = f"--url http://host:port, such as {DEFAULT_URL}"
        yield Finding(what=what, well=False, detail="is no address", cure=cure)
        return
    try:
        with http_client(httpx.Client, base, token=token, timeout_secs=TIMEOUT_SECS) as client:
            yield from _all_of(client, what, has_token=bool(token))
    except SettingsError as error:
        yield Finding(what=what, well=False, detail="cannot be asked", cure=str(error))
    except httpx.ConnectError as error:
        yield _no_connection(what, str(error), needed=needed)
    except _TokenRefused as error:
        yield Finding(what=what, well=False, detail=str(error), cure=TOKEN_CURE)
    except _NameRefused as error:
        yield Finding(what=what, well=False, detail="answers nothing", cure=str(error))
    except _Trouble as error:
        yield Finding(what=what, well=False, detail=str(error), cure=system.BROKER_CURE)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding(what=what, well=False, detail=f"does not answer ({error})", cure=GATEWAY_CURE)
    except (msgspec.MsgspecError, ValueError):
        yield Finding(what=what, well=False, detail="something else answers", cure=GATEWAY_CURE)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _no_connection(what: str, why: str, *, needed: bool) -> Finding:
    if "certificate" in why:
        detail = f"its certificate is not accepted ({why})"
        return Finding(what=what, well=False, detail=detail, cure=_certificate_cure(why))
    is_bad = needed or "SSL" in why  # something else is there
    detail = f"does not answer ({why})" if is_bad else "none runs; sgaps up starts one"
    return Finding(what=what, well=not is_bad, detail=detail, cure=GATEWAY_CURE)


def _certificate_cure(why: str) -> str:
    if "is not valid for" in why:  # few are for 127.0.0.1
        return "name it as its certificate does: --url https://host:port"
    return (
        "renew the certificate in server.tls_certificate, or name its authority's in "
        "SSL_CERT_FILE if it is your own"
    )


def _all_of(client: httpx.Client, what: str, *, has_token: bool) -> Iterator[Finding]:
    status, clock_off_secs = _get(client, "/api/status", system.Status)
    ready, _ = _get(client, "/api/ready", system.Ready)
    yield Finding(what=what, well=True, detail=f"up {status.uptime_secs:.0f} s")
    yield from _edge(client, clock_off_secs, has_token=has_token)
    yield from system.services_found(status, ready)
    if not status.active_sessions:
        yield from system.work_found(status, status, [])
        return
    time.sleep(BETWEEN_LOOKS_SECS)
    later, _ = _get(client, "/api/status", system.Status)
    sessions, _ = _get(client, "/api/sessions", list[system.Session])
    yield from system.work_found(status, later, sessions)
    yield from system.metrics_found(client.get("/metrics").text)


def _get(client: httpx.Client, path: str, kind: type[T]) -> tuple[T, float | None]:
    """An answer of the gateway, and how far its clock is ahead. Raises HTTPError, MsgspecError."""
    reply = client.get(path)
    clock_off_secs = None
    if date := reply.headers.get("Date"):
        clock_off_secs = parsedate_to_datetime(date).timestamp() - int(time.time())
    code, detail = reply.status_code, _detail(reply)
    if code == httpx.codes.UNAUTHORIZED:
        raise _TokenRefused(str(detail or "it wants a token"))
    if code == httpx.codes.FORBIDDEN and detail:
        raise _NameRefused(str(detail))
    if code == httpx.codes.SERVICE_UNAVAILABLE and detail:  # without: what is not ready
        raise _Trouble(str(detail))
    return msgspec.json.decode(reply.content, type=kind), clock_off_secs


def _detail(reply: httpx.Response) -> object:
    """The reason in an answer of trouble. Raises ValueError where it is no JSON."""
    found = reply.json()
    return found.get("detail") if isinstance(found, dict) else None


def _edge(
    client: httpx.Client, clock_off_secs: float | None, *, has_token: bool
) -> Iterator[Finding]:
    """What lies between it and this machine: clocks, a certificate, a token."""
    host = client.base_url.host
    if clock_off_secs is not None:
        agree = abs(clock_off_secs) <= CLOCK_OFF_SECS
        off = (
            f"the gateway's is {abs(clock_off_secs):.0f} s "
            f"{'ahead of' if clock_off_secs > 0 else 'behind'} this machine's"
        )
        yield Finding(
            what="clocks",
            well=agree,
            detail=f"they agree within {CLOCK_OFF_SECS} s" if agree else off,
            cure="set both by NTP: timedatectl set-ntp true",
        )
    if not has_token and not is_loopback(str(client.base_url)):
        yield Finding(
            what="token",
            well=False,
            detail=f"{host} answers everybody",
            cure="set server.auth_token_file, or let nobody else reach what stands before it",
        )
    if client.base_url.scheme == "https":
        yield _certificate(str(client.base_url))


def _certificate(url: str) -> Finding:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 443)
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection(address, TIMEOUT_SECS) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as secure,
        ):
            ends_at_secs = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
    except (OSError, KeyError) as error:
        return Finding(what="certificate", well=False, detail=str(error), cure="try again")
    days = (ends_at_secs - time.time()) / 86_400
    return Finding(
        what="certificate",
        well=days > CERTIFICATE_DAYS,
        detail=f"ends in {days:.0f} days",
        cure="renew server.tls_certificate and server.tls_key, and start the gateway again",
    )
