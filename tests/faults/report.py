"""The table of faults: one row for each promise, printed at the end of the run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HEAD = "| fault | how often | figure | target | met |\n|---|---|---|---|---|"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault, what was measured under it, and what was promised."""

    fault: str
    times: str
    figure: str
    target: str
    met: bool

    def __str__(self) -> str:
        met = "yes" if self.met else "**no**"
        return f"| {self.fault} | {self.times} | {self.figure} | {self.target} | {met} |"


@dataclass
class FaultTable:
    """Rows of this run, in the order of their scenarios."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self, fault: str, *, times: object, figure: str, target: str, met: bool, why: object = ""
    ) -> None:
        """Write a row down, then fail the test if the target was missed; `why` tells more."""
        row = Row(fault=fault, times=str(times), figure=figure, target=target, met=met)
        self.rows.append(row)
        assert met, f"{row}\n{why}"

    def as_markdown(self) -> str:
        return "\n".join([HEAD, *map(str, self.rows)])

    def write(self, path: Path, *, command: str) -> None:
        """The table with the commit and the command that it came from."""
        path.write_text(f"Commit {_commit()}, `{command}`\n\n{self.as_markdown()}\n", "utf-8")


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"
