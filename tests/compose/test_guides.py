"""Whatever the guides have Docker do is done by a test of this folder; needs no engine."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from markdown_files import GUIDES, blocks, commands, guide
from paths import ROOT

HERE = Path(__file__).parent
ANY = None
"""A word that a test fills in: a path, a user, the name of a project."""

Words = tuple[str | None, ...]


def of_the_tests() -> set[Words]:
    """Each call of `compose(…)` and of `command("docker", …)` in this folder."""
    found = set()
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            words = tuple(map(_word, node.args))
            if isinstance(node.func, ast.Attribute) and node.func.attr == "compose":
                found.add(_plain(("docker", "compose", *words)))
            elif isinstance(node.func, ast.Name) and words[:1] == ("docker",):
                found.add(words)
    return found


def _word(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ANY


def of_the_guide(name: str) -> Iterator[Words]:
    for block in blocks(guide(name)):
        for line in commands(block):
            recipe = _recipe(line.split()[1]) if line.startswith("make ") else line
            if recipe.startswith("docker "):
                yield _plain(tuple(shlex.split(recipe, comments=True)))


def _recipe(target: str) -> str:
    """What make runs, as the shell sees it."""
    makefile = (ROOT / "Makefile").read_text()
    match = re.search(rf"^{target}:.*\n\t(.*)$", makefile, flags=re.MULTILINE)
    return match[1].replace("$$", "$") if match else ""


def _plain(words: Words) -> Words:
    """Without how long to wait, and without building what the tests have built before."""
    kept = list(words)
    if "--wait-timeout" in kept:
        at = kept.index("--wait-timeout")
        del kept[at : at + 2]
    if "run" in kept and "--build" in kept:
        kept.remove("--build")
    return tuple(kept)


def is_run(words: Words, tests: set[Words]) -> bool:
    return any(
        len(known) == len(words)
        and all(theirs in (ANY, ours) for ours, theirs in zip(words, known, strict=True))
        for known in tests
    )


@pytest.mark.parametrize("name", GUIDES)
def test_a_test_runs_it(name: str) -> None:
    tests = of_the_tests()
    missing = [words for words in of_the_guide(name) if not is_run(words, tests)]
    assert missing == []


def test_what_no_test_runs_is_found() -> None:
    tests = of_the_tests()
    assert is_run(("docker", "compose", "up", "--detach", "--wait"), tests)
    assert not is_run(("docker", "compose", "up", "--detach"), tests)
    assert not is_run(("docker", "compose", "pull"), tests)
    assert len(list(of_the_guide("for-platform-engineers"))) >= 8
