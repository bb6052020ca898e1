"""How this process reaches its broker: credentials, TLS, time-outs, the pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sgaps.errors import SettingsError
from sgaps.settings import BusSettings

_OPTIONS = {"db", "username", "password"}
"""What may stand behind the ? of a URL."""
MAX_CONNECTIONS = 256
"""Of one pool. Every blocking read holds one, and a gateway has a reader for each viewer."""


def connect(settings: BusSettings, *, socket_timeout_secs: float | None) -> Redis:
    """A client whose pool connects when it is used. Raises SettingsError.

    Without a time-out of its own each command costs less: redis-py sends one with a time-out in a
    task. Whoever uses it then minds the time.

    A connection that died in silence is found by the time-out of the next command, so there are
    no health checks: a PING would find it no sooner. Who wants a connection when all are in use
    waits for one instead of hearing that there is no broker.
    """
    _check_options(settings.url)
    patience_secs = socket_timeout_secs or settings.socket_timeout_secs
    # A socket in the file system has none, and redis-py's connections to one refuse the word.
    keepalive = {} if settings.url.startswith("unix:") else {"socket_keepalive": True}
    try:
        pool = Pool.from_url(
            settings.url,
            max_connections=MAX_CONNECTIONS,
            timeout=patience_secs,
            protocol=2,  # one shape of replies, whatever the server speaks
            client_name=settings.client_name or None,
            driver_info=None,  # CLIENT SETINFO is not in Redis 7.0, and no user may be granted it
            socket_timeout=socket_timeout_secs,
            socket_connect_timeout=patience_secs,
            retry=Retry(NoBackoff(), retries=0),  # a write that is sent again may count twice
            **keepalive,
            **_tls(settings),
        )
    except ValueError:
        # What redis-py says may quote a piece of the password.
        raise SettingsError(
            f"bus.url names no broker ({shown(settings.url)}): "
            "redis://host:port/0, rediss://host:port/0 or unix:///path"
        ) from None
    pool.connection_kwargs.update(_credentials(settings))  # which go before those of the URL
    return Redis.from_pool(pool)


def _check_options(url: str) -> None:
    """redis-py takes any option of a connection from the URL, and ours are not its to change."""
    try:
        options = parse_qs(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return  # the whole URL cannot be read, which is for others to say
    if options.keys() - _OPTIONS:
        # Not named: behind a ? may be the rest of a password.
        raise SettingsError(
            f"bus.url ({shown(url)}) has options that cannot be set there, behind its ?: it takes "
            f"{', '.join(sorted(_OPTIONS))}; others, as TLS files, are settings of bus.*"
        )


class Pool(BlockingConnectionPool):
    """Where one connection died in use, the idle ones are not trusted either.

    What swallowed one swallowed them all, and each would cost some command its whole time-out.
    """

    async def release(self, connection: AbstractConnection) -> None:
        was_left = connection.should_reconnect()  # type: ignore[no-untyped-call]
        await super().release(connection)
        if not (connection.is_connected or was_left):
            await self.leave_idle()

    async def leave_idle(self) -> None:
        """Without waiting until they are closed: one that is lent meanwhile connects anew."""
        for idle in self._available_connections:
            await idle.disconnect(nowait=True)


def shown(url: str) -> str:
    """A broker's URL for people to read: without what may be secret."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return "it cannot be read"
    if not parts.scheme:
        return "it has no scheme"
    # A password with / or ? in it begins as a port without a host, and ends in the path.
    has_host = parts.hostname if parts.netloc else parts.path.startswith("/")
    if "@" in parts.path or not has_host:
        return "it cannot be read"
    return f"{parts.scheme}://{host}{parts.path}"


def _credentials(settings: BusSettings) -> dict[str, Any]:
    given: dict[str, Any] = {"username": settings.username} if settings.username else {}
    if settings.password_file is not None:
        given["password"] = _password(settings.password_file)
    return given


def _password(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise SettingsError(f"bus.password_file {path} cannot be read: {reason}") from None
    if not password:
        raise SettingsError(f"bus.password_file {path} is empty")
    return password


def _tls(settings: BusSettings) -> dict[str, Any]:
    """The certificate and the name of the host are checked wherever the URL is rediss://."""
    files = {
        "ssl_ca_certs": settings.tls_ca_file,
        "ssl_certfile": settings.tls_certificate_file,
        "ssl_keyfile": settings.tls_key_file,
    }
    named = {option: path for option, path in files.items() if path is not None}
    for path in named.values():
        if not path.is_file():
            raise SettingsError(f"bus: there is no file {path}")
    return {option: str(path) for option, path in named.items()}
