"""The broker: whether it keeps what it is given, how full it is, and what waits in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redis import exceptions as redis_errors

from sgaps.bus.connection import connect
from sgaps.bus.redis_bus import RedisBus
from sgaps.errors import BusError, BusRefused, BusUnavailable, SettingsError
from sgaps.settings import BusSettings
from sgaps_cli.broker import (
    BROKER_NAME,
    MIN_BROKER_VERSION,
    OWN_CURE,
    REDIS_URL_ENV,
    BrokerError,
    find_program,
    major,
)
from sgaps_cli.data_folder import Running
from sgaps_cli.doctor.finding import TIMEOUT_SECS, Finding
from sgaps_cli.doctor.streams import Look, look_at_streams, streams_found

FULL_SHARE = 0.8
"""Of its maximum memory."""


def look_at_broker(
    settings: BusSettings, running: Running | None, data_dir: Path, *, needed: bool
) -> Iterator[Finding]:
    """The broker of REDIS_URL, or that of the running `sgaps up`, which must answer; or, if
    `needed`, one that can be started over what is in `data_dir`."""
    url, what = os.environ.get(REDIS_URL_ENV), f"broker of {REDIS_URL_ENV}"
    cure_of_silence = f"start it, or {OWN_CURE}"
    if not url and running:
        url, what = running.broker_url, "broker of sgaps up"
        cure_of_silence = "it is started again by itself"
    try:
        if not url:
            if needed:
                detail = f"{find_program(data_dir / BROKER_NAME).name} can be started"
                yield Finding(what="broker", well=True, detail=detail)
            return
        told, looks = asyncio.run(_ask(settings.model_copy(update={"url": url})))
    except BrokerError as error:
        yield Finding(what="broker", well=False, detail=str(error), cure="make setup")
    except SettingsError as error:
        yield Finding(what=what, well=False, detail=str(error), cure="mend that setting")
    except BusRefused as error:
        cure = "bus.username=monitor and its bus.password_file (sgaps acl)"
        yield Finding(what=what, well=False, detail=str(error), cure=cure)
    except BusError as error:
        yield Finding(what=what, well=False, detail=str(error), cure=cure_of_silence)
    else:
        yield Finding(what=what, well=True, detail="answers")
        yield from _durability(told)
        yield from _health(told)
        yield from streams_found(looks)


async def _ask(settings: BusSettings) -> tuple[dict[str, Any], list[Look]]:
    """What the broker tells of itself and its streams. Raises BusError, SettingsError."""
    bus = RedisBus(settings)
    try:
        await bus.ping()
    finally:
        await bus.close()
    async with connect(settings, socket_timeout_secs=TIMEOUT_SECS) as redis:
        try:
            told: dict[str, Any] = await redis.info()
            return told, await look_at_streams(redis)
        except redis_errors.NoPermissionError as error:
            raise BusRefused(f"it may not be asked for its state: {error}") from error
        except redis_errors.RedisError as error:
            raise BusUnavailable(str(error)) from error


def _durability(told: Mapping[str, Any]) -> Iterator[Finding]:
    """What a broker must be like to keep what the gateway accepted."""
    version = told["redis_version"]
    yield Finding(
        what="broker version",
        well=major(version) >= MIN_BROKER_VERSION,
        detail=told.get("valkey_version", version),
        cure=f"Redis {MIN_BROKER_VERSION} or later, or Valkey",
    )
    yield Finding(
        what="broker append-only file",
        well=bool(told["aof_enabled"]),
        detail="on" if told["aof_enabled"] else "off: a restart loses every frame in it",
        cure="appendonly yes, appendfsync everysec",
    )
    policy = told["maxmemory_policy"]
    yield Finding(
        what="broker eviction",
        well=policy == "noeviction",
        detail=policy if policy == "noeviction" else f"{policy} throws away whole streams",
        cure="maxmemory-policy noeviction: a full broker must refuse",
    )


def _health(told: Mapping[str, Any]) -> Iterator[Finding]:
    """How it is now."""
    used, most = int(told["used_memory"]), int(told["maxmemory"])
    yield Finding(
        what="broker memory",
        well=not most or used < FULL_SHARE * most,
        detail=f"{used / 2**20:.0f} MiB of {f'{most / 2**20:.0f} MiB' if most else 'no maximum'}",
        cure="see below which stream is long and start or scale who reads it; or raise maxmemory "
        "(REDIS_MAXMEMORY, and the container's limit to twice that)",
    )
    wrong = [
        f"{name} {told[name]}"
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status")
        if told.get(name, "ok") != "ok"
    ]
    yield Finding(
        what="broker disk",
        well=not wrong,
        detail=", ".join(wrong) or "the append-only file was written and rewritten well",
        cure="free space on the broker's volume; its log says what failed",
    )
