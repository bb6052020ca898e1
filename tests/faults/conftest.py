"""`--long`, the table at the end, and rigs that leave nothing behind."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from faults.report import FaultTable
from faults.rig import Plan, Rig, running_rig

TABLE = pytest.StashKey[FaultTable]()
T = TypeVar("T")
StartRig: TypeAlias = Callable[..., AbstractAsyncContextManager[Rig]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--long", action="store_true", help="the long form of the fault suite")
    group.addoption("--fault-table", type=Path, metavar="PATH", help="write the table there")


def _option(config: pytest.Config, name: str) -> Any:
    """pytest knows the options of this folder only where the command line names the folder."""
    return config.getoption(name, default=None)


@dataclass(frozen=True)
class Form:
    """The short or the long form of a scenario."""

    is_long: bool

    def __call__(self, short: T, long: T) -> T:
        return long if self.is_long else short

    def at_most(self, promised: float) -> float:
        """A limit of time or age: as promised in the long form, which has the machine to itself,
        three times that in the short one, which runs among other tests on whatever CI gives.
        """
        return promised if self.is_long else 3 * promised


@pytest.fixture
def form(request: pytest.FixtureRequest) -> Form:
    return Form(is_long=bool(_option(request.config, "--long")))


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> FaultTable:
    """The table that all scenarios write to."""
    return request.config.stash.setdefault(TABLE, FaultTable())


@pytest.fixture
def start_rig(tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch) -> StartRig:
    """`async with start_rig(...) as rig`: see `Plan` for what it may be told."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for `-m faults.fixed_model`
    return lambda **plan: running_rig(tmp_path, Plan(**plan), limit_secs=form(90, 1800))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash.get(TABLE, None)
    if table is None or not table.rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(table.as_markdown())
    path = _option(config, "--fault-table")
    if path is not None:
        table.write(path, command=shlex.join(["pytest", *sys.argv[1:]]))
