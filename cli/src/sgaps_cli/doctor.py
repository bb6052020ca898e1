"""`sgaps doctor`: what is wrong here, and how it is cured."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from redis import exceptions as redis_errors
from rich.console import Console
from rich.markup import escape

from sgaps.bus.connection import connect
from sgaps.bus.redis_bus import RedisBus
from sgaps.errors import BusError, BusRefused, SettingsError
from sgaps.settings import BusSettings, load_settings
from sgaps_cli.broker import REDIS_URL_ENV, BrokerError, find_program

MIN_PYTHON = (3, 11)
PACKAGES = {
    "torch": "make setup",
    "cv2": "make setup",
    "h5py": "make setup",
    "vizdoom": "pip install sgaps-client[doom]",
    "ale_py": "pip install sgaps-client[atari]",
}
MIN_BROKER_VERSION = 7
TIMEOUT_SECS = 3.0
DEFAULT_URL = "http://127.0.0.1:8000"
GATEWAY_CURE = "start the system: sgaps up, or name another with --url http://host:port"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at; `cure` says what to do where it is not well."""

    what: str
    well: bool
    detail: str
    cure: str = ""


def diagnose(url: str | None, data_dir: Path, *, token: str | None) -> int:
    """Print every finding; the exit status is 1 if something is not well.

    That no system runs is only well as long as none was asked for by its `url`.
    """
    console = Console()
    findings = list(_findings(url, data_dir, token))
    for finding in findings:
        mark = "[green]ok[/]  " if finding.well else "[red]bad[/] "
        cure = "" if finding.well else f"\n      cure: {finding.cure}"
        said = escape(f"{finding.what}: {finding.detail}{cure}")
        console.print(f"{mark} {said}", highlight=False, soft_wrap=True)
    return 0 if all(finding.well for finding in findings) else 1


def _findings(url: str | None, data_dir: Path, token: str | None) -> Iterator[Finding]:
    yield _python()
    yield from map(_package, PACKAGES)
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding(what="settings", well=False, detail=str(error), cure="mend that key")
    else:
        yield Finding(what="settings", well=True, detail="read and checked")
        yield from _broker(settings.bus)
        yield _disk(data_dir, needed_bytes=settings.recorder.min_free_bytes)
    yield from _gateway(url, token)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    well = sys.version_info >= MIN_PYTHON
    return Finding(what="Python", well=well, detail=version, cure="install Python 3.11 or later")


def _package(name: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    detail = "installed" if found else "missing"
    return Finding(what=f"package {name}", well=found, detail=detail, cure=PACKAGES[name])


def _broker(settings: BusSettings) -> Iterator[Finding]:
    """The broker of REDIS_URL, which must answer, or else the one that `sgaps up` would start."""
    url = os.environ.get(REDIS_URL_ENV)
    what = f"broker of {REDIS_URL_ENV}"
    try:
        if not url:
            detail = f"{find_program().name} can be started"
            yield Finding(what="broker", well=True, detail=detail)
            return
        told = asyncio.run(_info(settings.model_copy(update={"url": url})))
    except BrokerError as error:
        yield Finding(what="broker", well=False, detail=str(error), cure="make setup")
    except SettingsError as error:
        yield Finding(what=what, well=False, detail=str(error), cure="mend that setting")
    except BusRefused as error:
        cure = "bus.username=monitor and its bus.password_file (sgaps acl)"
        yield Finding(what=what, well=False, detail=str(error), cure=cure)
    except BusError as error:
        cure = f"start it, or unset {REDIS_URL_ENV}: then sgaps up starts its own"
        yield Finding(what=what, well=False, detail=str(error), cure=cure)
    else:
        yield Finding(what=what, well=True, detail="answers")
        yield from _durability(told)


async def _info(settings: BusSettings) -> dict[str, Any]:
    """What the broker tells of itself. Raises BusError, SettingsError."""
    bus = RedisBus(settings)
    try:
        await bus.ping()
    finally:
        await bus.close()
    async with connect(settings, socket_timeout_secs=TIMEOUT_SECS) as redis:
        try:
            told: dict[str, Any] = await redis.info()
        except redis_errors.NoPermissionError as error:
            raise BusRefused(f"it may not be asked for INFO: {error}") from error
    return told


def _durability(told: Mapping[str, Any]) -> Iterator[Finding]:
    """What a broker must be like to keep what the gateway accepted."""
    # A Valkey calls itself Redis 7.2 for those who only know that name.
    version = told["redis_version"]
    yield Finding(
        what="broker version",
        well=int(version.partition(".")[0]) >= MIN_BROKER_VERSION,
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


def _disk(data_dir: Path, *, needed_bytes: int) -> Finding:
    existing = next(p for p in (data_dir.resolve(), *data_dir.resolve().parents) if p.exists())
    free_bytes = shutil.disk_usage(existing).free
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    return Finding(
        what=f"data folder {data_dir}",
        well=writable and free_bytes > needed_bytes,
        detail=f"{'writable' if writable else 'not writable'}, {free_bytes / 1e9:.1f} GB free",
        cure=f"free space there ({needed_bytes / 1e9:.1f} GB), or choose another with --data-dir",
    )


def _gateway(url: str | None, token: str | None) -> Iterator[Finding]:
    base = url or DEFAULT_URL
    what = f"gateway {base}"
    try:
        status, ready = (_json(f"{base}/api/{name}", token) for name in ("status", "ready"))
        up_secs, services, why = status["uptime_secs"], status["services"], ready["why"]
    except httpx.ConnectError as error:
        well = url is None
        detail = "none runs; sgaps up starts one" if well else f"does not answer ({error})"
        yield Finding(what=what, well=well, detail=detail, cure=GATEWAY_CURE)
    except _TokenRefused as error:
        cure = "give its token with --token or in SGAPS_TOKEN"
        yield Finding(what=what, well=False, detail=str(error), cure=cure)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding(what=what, well=False, detail=f"does not answer ({error})", cure=GATEWAY_CURE)
    except (ValueError, KeyError, TypeError):
        yield Finding(what=what, well=False, detail="something else answers", cure=GATEWAY_CURE)
    else:
        yield Finding(what=what, well=True, detail=f"up {up_secs:.0f} s")
        yield Finding(
            what="services",
            well=not why,
            detail=", ".join(f"{s['service']} {s['instance']}" for s in services) or "none",
            cure="look at the logs in the data folder: "
            + ", ".join(f"{name} ({reason})" for name, reason in why.items()),
        )


class _TokenRefused(httpx.HTTPError):
    """The gateway wants a token, or another one."""


def _json(url: str, token: str | None) -> dict[str, Any]:
    """An answer of the gateway. Raises HTTPError, also where the gateway has no broker."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    reply = httpx.get(url, timeout=TIMEOUT_SECS, headers=headers)
    found: dict[str, Any] = reply.json()
    if reply.status_code == httpx.codes.UNAUTHORIZED:
        raise _TokenRefused(str(found.get("detail", "it wants a token")))
    if "detail" in found:
        raise httpx.HTTPError(str(found["detail"]))
    return found
