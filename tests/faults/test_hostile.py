"""Hostile input in the long form; tests/hostile has the short one, and says more of each case."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from faults.conftest import Form
from faults.report import FaultTable
from hostile.checkpoints import Damage, hostile_checkpoints
from hostile.fuzz import run_fuzz
from hostile.ids import TRICKS
from reconstructor.neural import NeuralReconstructor
from sgaps.model import CheckpointStore
from sgaps.protocol.ids import is_valid_id
from toy_models import publish
from toy_reconstructors import settings_of
from unit.toy_room import atlas_of, walk

KEY = "doom"
INPUTS = 1_000_000


def test_hostile_bytes(faults: FaultTable, form: Form) -> None:
    if not form.is_long:
        pytest.skip("for --long; tests/hostile has the short form")
    report = run_fuzz(INPUTS)
    faults.add(
        "hostile bytes (coverage-guided)",
        times=f"{report.inputs:,} inputs to {len(report.targets)} parsers",
        figure=f"{len(report.crashes)} parsers with an unhandled exception",
        target="0; every refusal typed",
        met=not report.crashes and report.inputs >= INPUTS,
        why=report.crashes,
    )


def test_hostile_ids_and_checkpoints(tmp_path: Path, faults: FaultTable, form: Form) -> None:
    checkpoints = dict(list(hostile_checkpoints())[:: form(10, 1)])
    accepted = [text for text in TRICKS if is_valid_id(text)]
    for number, (name, damage) in enumerate(checkpoints.items()):
        accepted += [name] * is_swapped_in(tmp_path / str(number), damage)
    count = len(TRICKS) + len(checkpoints)
    faults.add(
        "hostile ids and checkpoints",
        times=f"{len(TRICKS)} ids, {len(checkpoints)} checkpoints",
        figure=f"{len(accepted)} accepted",
        target="0 of ≥ 200; the old model keeps serving",
        met=not accepted and count >= form(100, 200),
        why=accepted,
    )


def is_swapped_in(root: Path, damage: Damage) -> bool:
    """Publish a version, then one that is damaged; whether anything but the first serves."""
    first = publish(root, KEY, atlas=atlas_of(walk(4)))
    reconstructor = NeuralReconstructor([CheckpointStore(root)], settings_of(root))
    second = publish(root, KEY, seed=1, atlas=atlas_of(walk(4, seed=1)))
    damage(root / KEY / second.model_version)
    reconstructor.refresh()
    shutil.rmtree(root, ignore_errors=True)
    return reconstructor.serving()[KEY] != first.model_version
