"""`sgaps secrets`: the files that compose.yaml mounts as secrets."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from sgaps_cli.acl import write_acl

TOKEN_BYTES = 32
READABLE = 0o644
"""Compose mounts the file itself, with its owner and mode, into containers of other users. Who may
read it on this machine says the folder."""


def write_secrets(folder: Path) -> list[Path]:
    """Write the broker's users, their passwords, the clients' token. Raises AclError.

    Nothing is overwritten.
    """
    written = write_acl(folder)
    folder.chmod(0o700)
    monitor_password = (folder / "monitor.password").read_text().strip()
    others = {
        "auth_token": secrets.token_hex(TOKEN_BYTES),
        "grafana.password": secrets.token_urlsafe(TOKEN_BYTES),
        "redis_exporter.json": json.dumps({"redis://monitor@redis:6379": monitor_password}),
    }
    for name, content in others.items():
        path = folder / name
        path.write_text(f"{content}\n")
        written.append(path)
    for path in written:
        if path.name != "admin.password":  # nobody's in the deployment
            path.chmod(READABLE)
    return written
