"""Each command of the README is one that a test runs, with other numbers, or people by hand."""

from __future__ import annotations

import re

import pytest

from markdown_files import blocks, commands, inline_code
from paths import ROOT

GUIDES = "tests/e2e/test_guides.py::test_every_command_does_what_it_promises"
PLAY = "tests/e2e/test_play.py::test_atari_and_a_video_file_play_too"
COMPOSE = "tests/compose/test_deployment.py::test_what_was_played_is_in_the_volume"
RUN_BY = {
    "make run": GUIDES,
    "make test": ".ci/run::make test",
    "make test-faults": "tests/faults/test_recorder.py::test_recorder_killed_at_random",
    "make test-compose": COMPOSE,
    "make secrets && docker compose up": COMPOSE,
    "make bench": "tests/integration/test_bench.py::test_pipeline",
    "sgaps up": GUIDES,
    "sgaps play": PLAY,
    "sgaps capture": GUIDES,
    "sgaps import": "tests/unit/test_cli_capture.py::test_a_video_is_imported_by_the_command",
    "sgaps train": GUIDES,
    "torchrun": "tests/training/test_train_command.py::test_two_ranks_train_one_checkpoint",
    "sgaps evaluate": GUIDES,
    "sgaps replay": "tests/browser/test_replay.py::test_a_recording_is_looked_through",
    "sgaps export": "tests/unit/test_export.py::test_it_shows_each_frame_as_it_is_rebuilt",
    "sgaps bench": GUIDES,
    "sgaps checkpoints": GUIDES,
    "sgaps doctor": GUIDES,
    "sgaps recordings": GUIDES,
    "sgaps dead": "tests/integration/test_cli_dead.py::test_dead_letters_are_told",
    "sgaps acl": "tests/integration/test_acl.py::test_the_whole_pipeline_works",
    "python -m browser.walks": "tests/browser/test_walks.py::test_a_walk_is_a_recording",
    "python -m hostile.fuzz": "tests/hostile/test_bytes.py::test_a_short_run_of_the_fuzzer",
}
BY_HAND = {
    "make benchmark-quality": "23 minutes; what it calls is run by the guide for researchers",
    "make benchmark-specialise": "three quarters of an hour; the same",
    "make audit": "asks an advisory service",
    "openssl rand": "not ours",
}
PROGRAM = re.compile(r"(make|docker|openssl|sgaps|python|torchrun) ")


def plain(command: str) -> str:
    """Without where it is run and where its program lies."""
    return re.sub(r"^\(?cd tests && ", "", command).replace("../", "").replace(".venv/bin/", "")


def of_the_readme() -> list[str]:
    text = (ROOT / "README.md").read_text()
    fenced = [command for block in blocks(text) for command in commands(block)]
    inline = [code for code in map(plain, inline_code(text)) if PROGRAM.match(code)]
    return [*map(plain, fenced), *inline]


@pytest.mark.parametrize("command", of_the_readme())
def test_it_is_known_who_runs_it(command: str) -> None:
    known = [start for start in (*RUN_BY, *BY_HAND) if re.match(rf"{re.escape(start)}\b", command)]
    assert known


def test_those_who_run_them_are_there() -> None:
    for place in RUN_BY.values():
        path, _, name = place.partition("::")
        assert name in (ROOT / path).read_text(), place
