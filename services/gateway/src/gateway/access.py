"""Who may come in: tokens, origins of browsers, and where a client comes from."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.shared import Gateway
from sgaps.errors import ErrorCode, ProtocolError

LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
IPV6_CLIENT_BITS = 64
"""One household has as many IPv6 addresses as it likes within these."""

_bearer = HTTPBearer(auto_error=False, description="server.auth_token, where one is set")


def is_token(shown: str | None, token: str) -> bool:
    """Compared in constant time: how long it takes tells nothing of the token."""
    return hmac.compare_digest((shown or "").encode("utf-8", "surrogatepass"), token.encode())


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def needs_token(
    request: Request,
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Guards what tells about sessions. Raises HTTPException 401."""
    gateway: Gateway = request.app.state.gateway
    if gateway.token and not is_token(shown.credentials if shown else None, gateway.token):
        raise HTTPException(
            401,
            "the token is wrong" if shown else "send the header Authorization: Bearer <token>",
            headers={"WWW-Authenticate": "Bearer"},
        )


def needs_safe_host(request: Request) -> None:
    """Without a token, guards what tells about sessions from pages of names that were pointed at
    this machine: to a browser they are of the gateway's own origin. Raises HTTPException 403.
    """
    gateway: Gateway = request.app.state.gateway
    host = request.headers.get("host")  # which every browser sends
    if gateway.token or not host or is_safe_host(host, gateway.settings.server.allowed_origins):
        return
    raise HTTPException(
        403,
        f"this gateway has no token, and is asked under the name {host!r:.100}: set "
        "server.auth_token_file, or add the origin of that name to server.allowed_origins",
    )


def is_safe_host(host: str, allowed_origins: Collection[str]) -> bool:
    """Whether no stranger has a page there: localhost, an address, or the host of an origin."""
    name = _host_in(f"//{host}")
    ours = {"localhost", *map(_host_in, allowed_origins)} - {""}  # what "null" has
    return name in ours or _is_address(name)


def _host_in(url: str) -> str:
    """In lower case and without its port."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_origin(socket: WebSocket, gateway: Gateway) -> None:
    """CORS does not cover sockets: the same rule, applied by hand. Games send no Origin.

    The gateway's own pages may come where they need a token as well, or under a name that no
    stranger has. Without that, what somebody points at this machine would be its own too. Raises
    ProtocolError.
    """
    origin, server = socket.headers.get("origin"), gateway.settings.server
    if origin is None or origin in server.allowed_origins:
        return
    if server.environment == "development" and re.fullmatch(LOCALHOST, origin):
        return
    host = socket.headers.get("host", "")
    is_own = origin in {f"http://{host}", f"https://{host}"}
    if is_own and (gateway.token or is_safe_host(host, server.allowed_origins)):
        return
    cure = (
        "a page opened from disk has it: open it from a server on localhost"
        if origin == "null"  # every such page, and any stranger's in a frame
        else "add it to server.allowed_origins"
    )
    raise ProtocolError(ErrorCode.ORIGIN_REFUSED, f"origin {origin!r:.100} is not allowed: {cure}")


def check_token(socket: WebSocket, gateway: Gateway, shown: str | None) -> None:
    """In the first message, or as a header, which browsers cannot set. Raises ProtocolError."""
    header, token = bearer_token(socket.headers.get("authorization")), gateway.token
    if token and not (is_token(header, token) or is_token(shown, token)):
        raise ProtocolError(ErrorCode.UNAUTHORIZED, "auth_token is wrong or missing")


def client_address(connection: HTTPConnection) -> str:
    """Of a request or a socket; "" where it has none."""
    return address_of(connection.client.host if connection.client else "")


def address_of(host: str) -> str:
    """What counts as one client's address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.version == 4:  # noqa: PLR2004 - of the Internet Protocol
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_CLIENT_BITS), strict=False))
