"""Where the processor time of a process goes: py-spy looks at its stacks while it is measured.

Looking costs the process a tenth, and needs the right to trace it (root, or `ptrace_scope` 0).
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgaps_cli.bench.processes import cpu_secs, wait_until
from sgaps_cli.broker import BrokerError

LOOKS_PER_SEC = 500
STARTED = b"Press Control-C"
FRAME = re.compile(r"(?P<function>.*) \((?P<file>.*?)(?::\d+)?\)")
WAITING = frozenset({"selectors.py", "threading.py"})
"""Whoever waits there uses no processor."""
HELPERS = ("contextlib.py", "enum.py", "functools.py", "numpy/", "<")
"""What others call for their work, and code made in memory: counted as their callers'."""
MODULES_SHOWN = 16
FUNCTIONS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Share:
    """Of one module, in the code of its own and what that calls in C."""

    module: str
    percent: float
    functions: list[str]
    """Where most of it is, the first most."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Of one process."""

    process: str
    cpu_micros_per_frame: float
    looks: int
    shares: list[Share]


@contextmanager
def profiled(pids: Mapping[str, int], frames: int) -> Iterator[list[Profile]]:
    """What named processes do inside the block, for so many frames, is in the list behind it.

    Raises BrokerError where they cannot be looked at.
    """
    profiles: list[Profile] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as looking:
        files = {name: Path(folder, str(pid)) for name, pid in pids.items()}
        for name, pid in pids.items():
            looking.enter_context(_looked_at(pid, files[name]))
        before_secs = {name: cpu_secs(pid) for name, pid in pids.items()}
        yield profiles
        used_secs = {name: cpu_secs(pid) - before_secs[name] for name, pid in pids.items()}
        looking.close()
        profiles += [
            _profile(name, file.read_text(), used_secs[name] / frames * 1e6)
            for name, file in files.items()
        ]


@contextmanager
def _looked_at(pid: int, file: Path) -> Iterator[None]:
    """py-spy writes each kind of stack that it saw, and how often, from now to the end."""
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    if program is None:
        raise BrokerError("py-spy is missing: pip install 'sgaps-cli[profile]'")
    command = [program, "record", "--nonblocking", "--pid", str(pid), "--rate", str(LOOKS_PER_SEC)]
    log = file.with_suffix(".log")
    with log.open("wb") as said:
        looker = subprocess.Popen(
            [*command, "--function", "--format", "raw", "--output", str(file)],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: STARTED in log.read_bytes(), looker, f"it looks at {pid}")
        yield
    finally:
        looker.send_signal(signal.SIGINT)
        looker.wait()


def _profile(process: str, stacks: str, cpu_micros_per_frame: float) -> Profile:
    looks = Counter[tuple[str, str]]()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if place := place_of(stack):
            looks[place] += int(count)
    return Profile(
        process=process,
        cpu_micros_per_frame=cpu_micros_per_frame,
        looks=looks.total(),
        shares=_shares(looks),
    )


def place_of(stack: str) -> tuple[str, str] | None:
    """Module and function of the innermost call; of a helper, its caller's. None: it waits."""
    calls = [found for call in stack.split(";") if (found := FRAME.fullmatch(call))]
    if not calls or calls[-1]["file"] in WAITING:
        return None
    working = [call for call in calls if not call["file"].startswith(HELPERS)] or calls
    module = working[-1]["file"].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return module, working[-1]["function"]


def _shares(looks: Counter[tuple[str, str]]) -> list[Share]:
    """Of all modules, the largest first."""
    modules = Counter[str]()
    for (module, _), count in looks.items():
        modules[module] += count
    return [
        Share(
            module=module,
            percent=100 * count / looks.total(),
            functions=[name for (owner, name), _ in looks.most_common() if owner == module],
        )
        for module, count in modules.most_common()
    ]


def told(profiles: Sequence[Profile]) -> str:
    """Markdown."""
    return "\n\n".join(map(_table, profiles))


def _table(profile: Profile) -> str:
    micros, shown = profile.cpu_micros_per_frame, profile.shares[:MODULES_SHOWN]
    rest = 100 - sum(share.percent for share in shown)
    used = f"{micros:,.0f} µs of processor time a frame"
    return "\n".join(
        [
            f"{profile.process}: {used} ({profile.looks:,} looks)",
            "",
            "| in | % | µs | most of it in |",
            "|---|---|---|---|",
            *(
                f"| {share.module} | {share.percent:.1f} | {share.percent / 100 * micros:,.1f} "
                f"| {', '.join(share.functions[:FUNCTIONS_SHOWN])} |"
                for share in shown
            ),
            f"| elsewhere | {rest:.1f} | {rest / 100 * micros:,.1f} | |",
        ]
    )
