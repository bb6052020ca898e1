"""`sgaps secrets`: the files that compose.yaml mounts as secrets."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from sgaps.durable import write_durably
from sgaps_cli.acl import ACL_FILE, GRANTS, AclError, write_acl, write_once, writing_in

EXPORTER_FILE = "redis_exporter.json"
TOKEN_BYTES = 32
OTHERS = {"auth_token": secrets.token_hex, "grafana.password": secrets.token_urlsafe}
READABLE = 0o644
"""Compose mounts the file itself, with its owner and mode, into containers of other users. Who may
read it on this machine says the folder."""


def write_secrets(folder: Path) -> list[Path]:
    """Write the broker's users, their passwords, the clients' token; what was written.

    A secret that is there stays: players have the token. What follows from them is written again.
    Raises AclError.
    """
    with writing_in(folder):
        _check_is_ours(folder)
        folder.chmod(0o700)  # first: the files in it are for all to read
        written = write_acl(folder)
        for name, secret_of in OTHERS.items():
            if write_once(folder / name, secret_of(TOKEN_BYTES)):
                written.append(folder / name)
        exporter = folder / EXPORTER_FILE
        monitor_password = (folder / "monitor.password").read_text().strip()
        content = json.dumps({"redis://monitor@redis:6379": monitor_password})
        write_durably(exporter, f"{content}\n".encode())
        written.append(exporter)
        # Of all that is mounted, for a run may have been cut off before this; admin's is nobody's.
        passwords = (folder / f"{user}.password" for user in GRANTS)
        for path in (*passwords, *(folder / name for name in OTHERS), exporter):
            if path.stat().st_mode & READABLE != READABLE:
                path.chmod(READABLE)
    return written


def _check_is_ours(folder: Path) -> None:
    """Nobody else may enter it from now on, so it is no folder of other things. Raises AclError."""
    ours = {f"{user}.password" for user in (*GRANTS, "admin")} | {*OTHERS, EXPORTER_FILE}
    names = {path.name for path in folder.iterdir()}
    if ACL_FILE not in names and (strange := sorted(n for n in names - ours if n[0] != ".")):
        raise AclError(f"{folder} has {strange[0]} in it: name a new folder with --out")
