"""Programs that tests need: one that is missing skips the test at home and fails it in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require(found: object, what: str) -> None:
    """Skip, or fail in CI, where something to test with is missing."""
    if not found and os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    if not found:
        pytest.skip(f"{what} is missing")


def require_tool(name: str, debian_package: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    require(path, f"{name} (Debian: {debian_package})")
    assert path is not None
    return path
