"""`sgaps doctor`: what is wrong here, and how it is cured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from sgaps.errors import SettingsError
from sgaps.settings import load_settings
from sgaps_cli.data_folder import running_in
from sgaps_cli.doctor import machine
from sgaps_cli.doctor.broker import look_at_broker
from sgaps_cli.doctor.containers import containers_found, deployed, published_url
from sgaps_cli.doctor.finding import Finding
from sgaps_cli.doctor.gateway import DEFAULT_URL, look_at_gateway


def diagnose(url: str | None, data_dir: Path, *, token: str | None, as_json: bool) -> int:
    """Print every finding; the exit status is 1 if something is not well.

    Without a `url` this machine is looked at too, and that no system runs is well.
    """
    findings = list(_findings(url, data_dir, token))
    is_well = all(finding.well for finding in findings)
    if as_json:
        told = {"well": is_well, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(told, indent=2))
    else:
        _print(findings)
    return 0 if is_well else 1


def _print(findings: Sequence[Finding]) -> None:
    console = Console()
    for finding in findings:
        mark = "[green]ok[/]  " if finding.well else "[red]bad[/] "
        cure = "" if finding.well else f"\n      cure: {finding.cure}"
        said = escape(f"{finding.what}: {finding.detail}{cure}")
        console.print(f"{mark} {said}", highlight=False, soft_wrap=True)


def _findings(url: str | None, data_dir: Path, token: str | None) -> Iterator[Finding]:
    if url is None:
        yield from machine.look_at_python()
    here, scheme = DEFAULT_URL, "http"
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding(what="settings", well=False, detail=str(error), cure="mend that key")
    else:
        yield Finding(what="settings", well=True, detail="read and checked")
        running = running_in(data_dir) if url is None else None
        scheme = "https" if settings.server.tls_certificate else "http"
        here = f"{scheme}://127.0.0.1:{settings.server.port}"
        if running:  # without TLS, whatever is configured now
            here = f"http://127.0.0.1:{running.port}"
        yield from look_at_broker(settings.bus, running, data_dir, needed=url is None)
        if url is None:
            yield from machine.disks(data_dir, settings)
    if url is None:
        yield from machine.look_at_secrets()
        containers = deployed()
        yield from containers_found(containers)
        here = published_url(containers, scheme) or here
    yield from look_at_gateway(url or here, token, needed=url is not None)
