"""What is printed for people, whose names can be typed again."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

IN_A_PIPE = 1000
"""Columns where no terminal says how many: a name that is broken up no grep finds."""


def show(table: Table) -> None:
    """Print a table, with nothing cut off: on a narrow terminal cells go on in the next line."""
    for column in table.columns:
        column.overflow = "fold"
    unbroken(Console()).print(table)


def unbroken(console: Console) -> Console:
    """The console, which in a pipe breaks no line up."""
    if not console.is_terminal:
        console.width = IN_A_PIPE
    return console
