"""A figure, its floor, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


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
        return f"{self.median:,.0f} ({self.least:,.0f} to {self.most:,.0f})"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing that was measured."""

    name: str
    unit: str
    ours: Spread
    floor: Spread
    floor_is: str
    target_ratio: float
    cpu_secs_per_1000_frames: float
    peak_memory_mib: float

    @property
    def ratio(self) -> float:
        return self.ours.median / self.floor.median


def told(figures: Sequence[Figure]) -> str:
    """Markdown."""
    lines = [
        "| what | ours | floor | ratio | target | CPU s per 1,000 frames | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        missed = "" if figure.ratio >= figure.target_ratio else " **missed**"
        lines.append(
            f"| {figure.name}, {figure.unit} | {figure.ours} | {figure.floor} "
            f"| {figure.ratio:.2f}{missed} | {figure.target_ratio:.2f} "
            f"| {figure.cpu_secs_per_1000_frames:.2f} | {figure.peak_memory_mib:.0f} |"
        )
    lines += ["", *dict.fromkeys(f"Floor: {figure.floor_is}." for figure in figures)]
    return "\n".join(lines)
