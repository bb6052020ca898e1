"""Hostile bytes in the long form; tests/hostile has the short one."""

from __future__ import annotations

import pytest
from hostile.fuzz import run_fuzz

from faults.conftest import Form
from faults.report import FaultTable

INPUTS = 1_000_000


def test_hostile_bytes(faults: FaultTable, form: Form) -> None:
    if not form.is_long:
        pytest.skip("a million inputs are for --long")
    report = run_fuzz(INPUTS)
    faults.add(
        "hostile bytes (coverage-guided)",
        times=f"{report.inputs:,} inputs to {len(report.targets)} parsers",
        figure=f"{len(report.crashes)} parsers with an unhandled exception",
        target="0; every refusal typed",
        met=not report.crashes and report.inputs >= INPUTS,
        why=report.crashes,
    )
