"""What a figure was measured on (Linux)."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sgaps_cli import broker

PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is not known is empty."""

    processor: str
    cores: int
    """That this process may use."""
    memory_gib: float
    gpus: tuple[str, ...]
    kernel: str
    python: str
    torch: str
    broker: str
    """That the benches start: program and version."""

    def __str__(self) -> str:
        parts = [
            f"{self.processor}, {self.cores} cores",
            f"{self.memory_gib:g} GiB",
            *self.gpus,
            f"Linux {self.kernel}",
            f"Python {self.python}",
            self.torch and f"torch {self.torch}",
            self.broker,
        ]
        return ", ".join(filter(None, parts))


def this_machine(proc: Path = PROC) -> Machine:
    gpus = sorted(proc.glob("driver/nvidia/gpus/*/information"))
    return Machine(
        processor=next(_values(proc / "cpuinfo", "model name"), platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        gpus=tuple(name for gpu in gpus for name in _values(gpu, "Model")),
        kernel=platform.release(),
        python=platform.python_version(),
        torch=_torch(),
        broker=_broker(),
    )


def _values(file: Path, name: str) -> Iterator[str]:
    """Of the lines `name: value`, which a container or another processor may lack."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                yield value.strip()


def _torch() -> str:
    """Without importing it."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _broker() -> str:
    """The beginning of its `Valkey server v=9.1.2 sha=…`."""
    try:
        command = [str(broker.find_program()), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except (broker.BrokerError, OSError):
        return ""
    return said.partition(" sha=")[0].strip()
