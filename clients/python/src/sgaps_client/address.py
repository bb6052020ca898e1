"""The address of a gateway's socket, as people give it, and what to say where nobody answers."""

from __future__ import annotations

import re
import ssl
from http import HTTPStatus
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import InvalidProxy, InvalidStatus, InvalidURI
from websockets.proxy import get_proxy, parse_proxy
from websockets.uri import parse_uri

from sgaps.errors import SettingsError

HttpClient = TypeVar("HttpClient", httpx.Client, httpx.AsyncClient)

EXAMPLE_URL = "ws://127.0.0.1:8000/ws/stream"


def check_url(url: str) -> None:
    """Raises SettingsError that names what is wrong, and what is right."""
    problem = _problem_with(url)
    if problem is not None:
        raise SettingsError(f"{shown(url)!r} {problem}; a gateway on this machine is {EXAMPLE_URL}")


def _problem_with(url: str) -> str | None:
    if not url.startswith(("ws://", "wss://")):
        return "does not begin with ws:// or wss://"
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return "names no host"
        parts.hostname.encode("idna")
        parse_uri(url)
    except (InvalidURI, ValueError):
        return "is no address"
    if parts.path in ("", "/"):
        return "has no path: the gateway listens at /ws/stream"
    return None


def shown(url: str) -> str:
    """The address without user and password, for people."""
    return re.sub(r"^([^/]*//)?[^/]*@", r"\1", url)


def http_url(ws_url: str) -> str:
    """`ws://host:port/ws/stream` → `http://host:port`, with the prefix of a proxy, if any."""
    scheme, _, rest = ws_url.partition("://")
    base = rest.rpartition("/ws/stream")[0] or rest.partition("/")[0]
    return f"{'https' if scheme == 'wss' else 'http'}://{base}"


def is_loopback(url: str) -> bool:
    """Whether it is of this machine, which no proxy leads to."""
    try:
        host = urlsplit(url).hostname or ""
        return f".{host}".endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:  # another name, or no address at all
        return False


def is_proxy_readable(url: str) -> bool:
    """Whether the proxy that the environment names for this address, if any, has one itself."""
    try:
        proxy = get_proxy(parse_uri(url))
        if proxy is not None:
            parse_proxy(proxy).host.encode("idna")
    except (InvalidProxy, ValueError):
        return False
    return True


def http_client(
    kind: type[HttpClient], url: str, *, token: str | None, timeout_secs: float
) -> HttpClient:
    """A client for a gateway's HTTP addresses, by the proxy of the environment.

    Without it on this machine, where one that cannot be used does no harm either. Certificates are
    those of the machine, or SSL_CERT_FILE, as they are for the socket. Raises SettingsError.
    """
    headers = _authorization(token)
    try:
        return kind(
            base_url=url,
            timeout=timeout_secs,
            headers=headers,
            verify=ssl.create_default_context(),
            trust_env=not is_loopback(url),
        )
    except (ImportError, ValueError) as error:
        raise unusable_proxy(error) from error


def _authorization(token: str | None) -> dict[str, str]:
    if token and not token.isascii():
        raise SettingsError("the token has other characters than ASCII, which no header carries")
    if token and not re.fullmatch("[!-~]+", token):  # the library would quote it
        raise SettingsError(
            "the token has blanks or control characters, perhaps a newline at its end: give it "
            "without"
        )
    return {"Authorization": f"Bearer {token}"} if token else {}


def unusable_proxy(error: Exception) -> SettingsError:
    """What to raise where a library cannot do what the environment asks for."""
    # A library may quote the proxy with its password.
    return SettingsError(
        f"the proxy of the environment cannot be used ({shown(str(error))}): set https_proxy or "
        "http_proxy to http://host:port, or no_proxy to the gateway's host"
    )


def told_loss(error: Exception, url: str, *, had_session: bool) -> str:
    """Why there is no connection, and where there never was one the cure.

    Raises SettingsError where the first server that answers has nothing at this path, or leads to a
    page: who had a session knows that the address is right, and waits.
    """
    if isinstance(error, InvalidURI):
        redirected = f"redirected to {shown(error.uri)}"
        if had_session:
            return f"connection lost ({redirected})"
        raise SettingsError(
            f"{shown(url)} is {redirected}: give the gateway's own address, with wss:// where "
            "that one has https://"
        ) from error
    status = error.response.status_code if isinstance(error, InvalidStatus) else None
    if status == HTTPStatus.NOT_FOUND and not had_session:
        raise SettingsError(
            f"{shown(url)} is not found (404): the gateway listens at /ws/stream; a gateway on "
            f"this machine is {EXAMPLE_URL}"
        ) from error
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        # A gateway says 403 at every path but its own; a proxy before it may want something else.
        return (
            f"{shown(url)} refuses the connection ({status}): the gateway listens at /ws/stream; "
            "if that is the path, is the token right?"
        )
    if "WRONG_VERSION_NUMBER" in str(error) and not had_session:
        return f"{shown(url)} speaks no TLS: is its address ws:// instead of wss://?"
    reason = str(error) or type(error).__name__
    if had_session:
        return f"connection lost ({reason})"
    return (
        f"no connection to {shown(url)} ({reason}): is a gateway there? `sgaps up`, or "
        f"`sgaps doctor --url {http_url(shown(url))}`"
    )
