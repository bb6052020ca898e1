"""This machine: Python and packages, the data folder, the folder of secrets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sgaps.settings import Settings
from sgaps_cli.acl import ACL_FILE
from sgaps_cli.data_folder import DATA_DIR
from sgaps_cli.doctor.finding import Finding
from sgaps_cli.doctor.variables import variable

MIN_PYTHON = (3, 11)
PACKAGES = {
    "torch": "make setup",
    "cv2": "make setup",
    "h5py": "make setup",
    "vizdoom": "pip install vizdoom",
    "ale_py": "pip install ale-py",
}
OTHERS = 0o077
"""Bits of a mode that let others in."""
SECRETS_DIR_ENV = "SGAPS_SECRETS_DIR"


def look_at_python() -> Iterator[Finding]:
    """The interpreter and what it has."""
    version = ".".join(map(str, sys.version_info[:3]))
    well = sys.version_info >= MIN_PYTHON
    yield Finding(what="Python", well=well, detail=version, cure="install Python 3.11 or later")
    yield from map(_package, PACKAGES)


def _package(name: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    detail = "installed" if found else "missing"
    return Finding(what=f"package {name}", well=found, detail=detail, cure=PACKAGES[name])


def disks(data_dir: Path, settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written, and has room; and those of recordings and checkpoints
    where the settings have them elsewhere, and no --data-dir says otherwise."""
    needed_bytes = settings.recorder.min_free_bytes
    yield _disk(data_dir, "choose another with --data-dir", needed_bytes)
    if data_dir != DATA_DIR:
        return
    for name in ("recordings_dir", "checkpoints_dir"):
        folder: Path = getattr(settings.data, name)
        # Not by resolve(), which raises where a link leads to itself.
        if Path(os.path.realpath(data_dir)) not in Path(os.path.realpath(folder)).parents:
            yield _disk(folder, f"set data.{name}", needed_bytes)


def _disk(data_dir: Path, other: str, needed_bytes: int) -> Finding:
    what = f"data folder {data_dir}"
    try:
        resolved = data_dir.resolve()
        existing = next(path for path in (resolved, *resolved.parents) if path.exists())
        free_bytes = shutil.disk_usage(existing).free
        is_dir, may_write = existing.is_dir(), os.access(existing, os.W_OK)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        return Finding(what=what, well=False, detail=f"cannot be looked at: {error}", cure=other)
    if not (is_dir and may_write):
        why = "may not be written by this user" if is_dir else "is no folder"
        return Finding(what=what, well=False, detail=f"{existing} {why}", cure=other)
    return Finding(
        what=what,
        well=free_bytes > needed_bytes,
        detail=f"writable, {free_bytes / 1e9:.1f} GB free",
        cure=f"free space there ({needed_bytes / 1e9:.1f} GB), or {other}",
    )


def look_at_secrets() -> Iterator[Finding]:
    """Whether others may read the passwords of a deployment, where there are any."""
    folder = Path(variable(SECRETS_DIR_ENV, "secrets"))
    try:
        if not (folder / ACL_FILE).exists():
            return
        private = [folder, folder / "admin.password"]
        modes = {path: path.stat().st_mode & 0o777 for path in private if path.exists()}
    except OSError as error:
        yield Finding(
            what=f"secrets {folder}",
            well=False,
            detail=f"cannot be looked at: {error.strerror}",
            cure=f"run this as the folder's owner, or name another in {SECRETS_DIR_ENV}",
        )
        return
    open_to_others = [path for path, mode in modes.items() if mode & OTHERS]
    yield Finding(
        what=f"secrets {folder}",
        well=not open_to_others,
        detail=", ".join(f"{path} has mode {modes[path]:o}" for path in open_to_others)
        or "for their owner alone",
        cure="; ".join(f"chmod go= {path}" for path in open_to_others),
    )
