"""A figure, its floor, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Self, TypeAlias, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

EXACT_FROM = 100
"""Numbers below are told with three digits, others without decimals."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of several repetitions."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median=float(np.median(values)), least=min(values), most=max(values))

    def __str__(self) -> str:
        return f"{_told(self.median)} ({_told(self.least)} to {_told(self.most)})"


@dataclass(frozen=True, kw_only=True)
class Used:
    """By a process."""

    cpu_secs_per_1000_frames: float
    peak_memory_mib: float

    @staticmethod
    def of(repetitions: Sequence[Used]) -> Used:
        """The median of the seconds, and the most memory."""
        secs = [used.cpu_secs_per_1000_frames for used in repetitions]
        most_mib = max(used.peak_memory_mib for used in repetitions)
        return Used(cpu_secs_per_1000_frames=float(np.median(secs)), peak_memory_mib=most_mib)

    def __str__(self) -> str:
        return f"{_told(self.cpu_secs_per_1000_frames)}, {_told(self.peak_memory_mib)}"


@dataclass(frozen=True, kw_only=True)
class Work(Used):
    """Of one process, or of several together."""

    by_process: Mapping[str, Used] = field(default_factory=dict)
    """Of each of several, by its name."""


@dataclass(frozen=True, kw_only=True)
class Run(Work):
    """So many frames at once, or one after the other."""

    frames_per_sec: float


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure is to reach: in its own unit, or as its ratio to the floor."""

    limit: float
    of_ratio: bool = True
    at_most: bool = False
    """The lower, the better."""

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"ratio {sign} {self.limit:.2f}" if self.of_ratio else f"{sign} {self.limit:g}"


@dataclass(frozen=True, kw_only=True)
class Figure(Work):
    """One thing that was measured; what was used is ours, not the floor's."""

    name: str
    unit: str
    ours: Spread
    floor: Spread
    floor_is: str
    target: Target | None = None

    @property
    def ratio(self) -> float:
        return self.ours.median / self.floor.median

    @property
    def is_met(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.target is None:
            return None
        return self.target.is_met(self.ratio if self.target.of_ratio else self.ours.median)

    @property
    def row(self) -> tuple[str, ...]:
        missed = " **missed**" if self.is_met is False else ""
        return (
            f"{self.name}, {self.unit}",
            str(self.ours),
            str(self.floor),
            f"{self.ratio:.2f}",
            f"{self.target or 'none'}{missed}",
            _told(self.cpu_secs_per_1000_frames),
            _told(self.peak_memory_mib),
        )

    @property
    def notes(self) -> list[str]:
        """What is told below the table, once for all figures that share it."""
        parts = "; ".join(f"{name} {used}" for name, used in self.by_process.items())
        split = [f"Ours, each, CPU s per 1,000 frames and peak MiB: {parts}."] if parts else []
        return [f"Floor: {self.floor_is}.", *split]

    @property
    def fields(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "is_met": self.is_met}


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """What this machine cannot tell."""

    name: str
    why: str

    @property
    def row(self) -> tuple[str, ...]:
        return (self.name, f"not measured: {self.why}", *[""] * (len(COLUMNS) - 2))

    @property
    def fields(self) -> dict[str, object]:
        return asdict(self)


Line: TypeAlias = Figure | Unmeasured
COLUMNS = ("what", "ours", "floor", "ratio", "target", "CPU s per 1,000 frames", "peak MiB")


def throughput(
    name: str,
    ours: Sequence[Run],
    floor: Sequence[Run],
    *,
    floor_is: str,
    target: Target | None = None,
) -> Figure:
    """Frames per second of repeated runs."""
    return compared(
        name,
        "frames/s",
        lambda run: run.frames_per_sec,
        ours,
        floor,
        floor_is=floor_is,
        target=target,
    )


W = TypeVar("W", bound=Work)


def compared(
    name: str,
    unit: str,
    value: Callable[[W], float],
    ours: Sequence[W],
    floor: Sequence[W],
    *,
    floor_is: str,
    target: Target | None = None,
) -> Figure:
    """One value of repeated runs."""
    return Figure(
        name=name,
        unit=unit,
        ours=Spread.of([value(run) for run in ours]),
        floor=Spread.of([value(run) for run in floor]),
        floor_is=floor_is,
        target=target,
        by_process={n: Used.of([run.by_process[n] for run in ours]) for n in ours[0].by_process},
        **vars(Used.of(ours)),
    )


def told(lines: Sequence[Line]) -> str:
    """Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(line.row for line in lines)]
    notes = dict.fromkeys(note for x in lines if isinstance(x, Figure) for note in x.notes)
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *notes])


def tracked(steps: Sequence[T], doing: str) -> Iterator[T]:
    """The steps of something long, with a progress bar on stderr, where that is a terminal."""
    console = Console(stderr=True)
    is_shown = console.is_terminal
    return iter(track(steps, doing, console=console, transient=True, disable=not is_shown))


def _told(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= EXACT_FROM else f"{number:.3g}"
