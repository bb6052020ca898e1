"""What an error of the client library means to ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis_errors

from sgaps.errors import BusError, BusFull, BusRefused, BusUnavailable

REFUSED_CURE = "(bus.username, bus.password_file; `sgaps acl` writes users with their rights)"

LOST = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)
"""Nothing came, or nothing more will: of these a connection dies."""
_UNAVAILABLE = (*LOST, redis_errors.ReadOnlyError, redis_errors.MasterDownError)
_UNAVAILABLE_NOW = ("NOREPLICAS", "BUSY ")
"""Too few replicas for `min-replicas-to-write`; a script of somebody else's that does not end."""
_REFUSED = (redis_errors.AuthenticationError, redis_errors.NoPermissionError)
_GROUP_LOST = ("NOGROUP", "UNBLOCKED", "no such key")
_DISK_FULL = "MISCONF"


def bus_error(error: Exception) -> BusError:
    """The one to raise for it."""
    if isinstance(error, redis_errors.OutOfMemoryError):
        return BusFull(f"the broker is out of memory: {error}")
    if isinstance(error, _REFUSED):
        return BusRefused(f"the broker refuses this user: {error} {REFUSED_CURE}")
    if isinstance(error, _UNAVAILABLE) or str(error).startswith(_UNAVAILABLE_NOW):
        return BusUnavailable(f"no answer from the broker: {error}")
    if str(error).startswith(_DISK_FULL):
        return BusFull(f"the broker cannot write to its disk: {error}")
    return BusError(f"the broker refuses a command: {error}")


@contextmanager
def as_bus_errors() -> Iterator[None]:
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        raise bus_error(error) from error


@contextmanager
def unless_group_lost() -> Iterator[None]:
    """Goes on behind the block where the stream or the group has vanished."""
    try:
        yield
    except redis_errors.ResponseError as error:
        if not str(error).startswith(_GROUP_LOST):
            raise
