"""`sgaps secrets`: the files that compose.yaml mounts as secrets."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from sgaps_cli.acl import GRANTS, write_acl, write_once, writing_in

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
        folder.chmod(0o700)  # first: the files in it are for all to read
        written = write_acl(folder)
        for name, secret_of in OTHERS.items():
            if write_once(folder / name, secret_of(TOKEN_BYTES)):
                written.append(folder / name)
        exporter = folder / "redis_exporter.json"
        monitor_password = (folder / "monitor.password").read_text().strip()
        exporter.write_text(json.dumps({"redis://monitor@redis:6379": monitor_password}) + "\n")
        written.append(exporter)
        # Of all that is mounted, for a run may have been cut off before this; admin's is nobody's.
        passwords = (folder / f"{user}.password" for user in GRANTS)
        for path in (*passwords, *(folder / name for name in OTHERS), exporter):
            if path.stat().st_mode & READABLE != READABLE:
                path.chmod(READABLE)
    return written
