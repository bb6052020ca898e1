"""`sgaps secrets`: the files that compose.yaml mounts as secrets."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from sgaps_cli.acl import write_acl, write_once, writing_in

TOKEN_BYTES = 32
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
        for name, secret in (
            ("auth_token", secrets.token_hex(TOKEN_BYTES)),
            ("grafana.password", secrets.token_urlsafe(TOKEN_BYTES)),
        ):
            if write_once(folder / name, secret):
                written.append(folder / name)
        exporter = folder / "redis_exporter.json"
        monitor_password = (folder / "monitor.password").read_text().strip()
        exporter.write_text(json.dumps({"redis://monitor@redis:6379": monitor_password}) + "\n")
        written.append(exporter)
        for path in written:
            if path.name != "admin.password":  # nobody's in the deployment
                path.chmod(READABLE)
    return written
