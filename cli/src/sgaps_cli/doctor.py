"""`sgaps doctor`: what is wrong here, and how it is cured."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from sgaps.errors import SettingsError
from sgaps.settings import load_settings
from sgaps_cli.broker import BrokerError, find_program

MIN_PYTHON = (3, 11)
PACKAGES = {
    "torch": "make setup",
    "cv2": "make setup",
    "h5py": "make setup",
    "vizdoom": "pip install sgaps-client[doom]",
    "ale_py": "pip install sgaps-client[atari]",
}
TIMEOUT_SECS = 3.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at; `cure` says what to do where it is not well."""

    what: str
    well: bool
    detail: str
    cure: str = ""


def diagnose(url: str, data_dir: Path) -> int:
    """Print every finding; the exit status is 1 if something is not well."""
    console = Console()
    findings = list(_findings(url, data_dir))
    for finding in findings:
        mark = "[green]ok[/]  " if finding.well else "[red]bad[/] "
        cure = "" if finding.well else f"\n      cure: {finding.cure}"
        console.print(f"{mark} {finding.what}: {finding.detail}{cure}", highlight=False)
    return 0 if all(finding.well for finding in findings) else 1


def _findings(url: str, data_dir: Path) -> Iterator[Finding]:
    yield _python()
    yield from map(_package, PACKAGES)
    yield _settings()
    yield _broker()
    yield _disk(data_dir)
    yield from _gateway(url)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    well = sys.version_info >= MIN_PYTHON
    return Finding(what="Python", well=well, detail=version, cure="install Python 3.11 or later")


def _package(name: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    detail = "installed" if found else "missing"
    return Finding(what=f"package {name}", well=found, detail=detail, cure=PACKAGES[name])


def _settings() -> Finding:
    try:
        load_settings()
    except SettingsError as error:
        return Finding(what="settings", well=False, detail=str(error), cure="mend that key")
    return Finding(what="settings", well=True, detail="read and checked")


def _broker() -> Finding:
    url = os.environ.get("REDIS_URL")
    try:
        detail = "REDIS_URL is set" if url else f"{find_program().name} can be started"
    except BrokerError as error:
        return Finding(what="broker", well=False, detail=str(error), cure="make setup")
    return Finding(what="broker", well=True, detail=detail)


def _disk(data_dir: Path) -> Finding:
    existing = next(p for p in (data_dir.resolve(), *data_dir.resolve().parents) if p.exists())
    free_bytes = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    needed_bytes = load_settings(environment={}).recorder.min_free_bytes
    return Finding(
        what=f"data folder {data_dir}",
        well=writable and free_bytes > needed_bytes,
        detail=f"{'writable' if writable else 'not writable'}, {free_bytes / 1e9:.1f} GB free",
        cure="free space there, or choose another with --data-dir",
    )


def _gateway(url: str) -> Iterator[Finding]:
    try:
        ready = httpx.get(f"{url}/api/ready", timeout=TIMEOUT_SECS).json()
        status = httpx.get(f"{url}/api/status", timeout=TIMEOUT_SECS).json()
    except (httpx.HTTPError, ValueError) as error:
        yield Finding(
            what=f"gateway {url}",
            well=False,
            detail=f"does not answer ({type(error).__name__})",
            cure="start the system: sgaps up, or name another with --url",
        )
        return
    yield Finding(what=f"gateway {url}", well=True, detail=f"up {status['uptime_secs']:.0f} s")
    yield Finding(
        what="services",
        well=bool(ready["ready"]),
        detail=", ".join(f"{s['service']} {s['instance']}" for s in status["services"]) or "none",
        cure=f"look at the logs of {', '.join(ready['missing'])} in the data folder",
    )
