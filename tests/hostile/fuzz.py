"""Coverage-guided fuzzing: `python -m hostile.fuzz [TARGET] --inputs N`, in `tests/`.

Each target runs in a process of its own, which atheris takes over. A warning of ours is an error,
and so is an input that takes longer than MAX_INPUT_SECS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from paths import TESTS

TARGETS = (
    "json_of_client",
    "json_of_server",
    "binary_of_client",
    "binary_of_server",
    "keyframe",
    "stream_entry",
)
INSTRUMENTED = ["sgaps.protocol", "sgaps.messages", "gateway.intake", "gateway.pictures", "PIL"]
MAX_INPUT_BYTES = 4096
MAX_INPUT_SECS = 5
AT_A_TIME = 2
SEED = 4


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """What came of the inputs of one target."""

    target: str
    inputs: int
    secs: float
    outcomes: dict[str, int]
    """`taken`, and refusals by their code."""
    crash: str
    """The end of what was told where an exception came through; empty where none did."""

    def __str__(self) -> str:
        taken = self.outcomes.get("taken", 0)
        refusals = len(self.outcomes) - (taken > 0)
        return (
            f"{self.target:18} {self.inputs:9,} inputs {self.secs:7.1f} s  "
            f"{int(bool(self.crash))} unhandled exceptions  {taken:9,} taken  "
            f"{refusals} distinct refusals"
        )


@dataclass(frozen=True, kw_only=True)
class FuzzReport:
    """All targets."""

    targets: tuple[TargetReport, ...]

    @property
    def inputs(self) -> int:
        return sum(report.inputs for report in self.targets)

    @property
    def crashes(self) -> list[str]:
        return [f"{report.target}: {report.crash}" for report in self.targets if report.crash]


def run_fuzz(inputs: int, targets: Sequence[str] = TARGETS) -> FuzzReport:
    """Give each target its share of the inputs, two at a time."""
    share = -(-inputs // len(targets))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        reports = pool.map(lambda target: _run_in_process(target, share), targets)
        return FuzzReport(targets=tuple(reports))


def _run_in_process(target: str, inputs: int) -> TargetReport:
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary.json"
        command = [sys.executable, "-m", "hostile.fuzz", target, f"--inputs={inputs}"]
        paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
        started_at_secs = time.monotonic()
        done = subprocess.run(
            [*command, f"--summary={summary}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        told = json.loads(summary.read_text()) if summary.exists() else {}
    crash = f"exit {done.returncode}\n{done.stdout}{done.stderr[-400:]}" if done.returncode else ""
    return TargetReport(
        target=target,
        inputs=sum(told.values()),
        secs=time.monotonic() - started_at_secs,
        outcomes=told,
        crash=crash,
    )


def fuzz_here(target: str, inputs: int, summary: Path) -> None:
    """Fuzz one target until enough inputs were tried; ends the process."""
    import atheris  # noqa: PLC0415 - only this process is instrumented

    with atheris.instrument_imports(include=INSTRUMENTED):
        from hostile.targets import outcome_of, targets  # noqa: PLC0415 - instrumented as it loads

        fuzzed = targets()[target]

    warnings.filterwarnings("error", module="sgaps|gateway|hostile")
    outcomes: Counter[str] = Counter()

    def one_input(data: bytes) -> None:
        outcomes[outcome_of(fuzzed.target, data)] += 1
        if outcomes.total() >= inputs:
            summary.write_text(json.dumps(outcomes))
            os._exit(0)

    with tempfile.TemporaryDirectory() as folder:
        options = _libfuzzer_options(Path(folder), fuzzed.seeds, fuzzed.words)
        atheris.Setup([sys.argv[0], *options], one_input)
        atheris.Fuzz()


def _libfuzzer_options(folder: Path, seeds: list[bytes], words: Sequence[bytes]) -> list[str]:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    dictionary = folder / "words"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
    limits = [f"-max_len={MAX_INPUT_BYTES}", f"-timeout={MAX_INPUT_SECS}"]
    # Few mutations at once: more of what comes is nearly a message.
    return [*limits, f"-seed={SEED}", "-mutate_depth=2", f"-dict={dictionary}", str(corpus)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all")
    parser.add_argument("--summary", type=Path, help="file for the outcomes of this process")
    arguments = parser.parse_args()
    if arguments.summary is not None:
        fuzz_here(arguments.target, arguments.inputs, arguments.summary)
    report = run_fuzz(arguments.inputs, [arguments.target] if arguments.target else TARGETS)
    print(*report.targets, f"{report.inputs:,} inputs in all", *report.crashes, sep="\n")
    sys.exit(bool(report.crashes))


if __name__ == "__main__":
    main()
