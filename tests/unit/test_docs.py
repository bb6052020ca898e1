"""What Markdown says can be typed, set or followed exists; tests/e2e/test_guides.py runs it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import typer

from markdown_files import GUIDES, anchors, blocks, commands, files, guide, inline_code, links
from paths import ROOT
from sgaps.settings import Settings, load_settings
from sgaps_cli.commands import app
from trainer import evaluate, train

FILES = [path.relative_to(ROOT).as_posix() for path in files()]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
OWN_PARSERS = {"train": train, "evaluate": evaluate}
"""Commands that hand their arguments on."""
GROUPS = "|".join(name for name in Settings.model_fields if (ROOT / "conf" / name).is_dir())
OVERRIDE = re.compile(rf"(?:{GROUPS}|[a-z_]+(?:\.\w+)+)=.*")
LEFT_OUT = ("Missing", "requires an argument", "are required", "expected one argument")
"""How the command line tells of what is not there, rather than of what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One program and its arguments."""

    words: tuple[str, ...]
    whole: bool
    """Code between backticks may leave arguments out: it often only names a command."""

    def runs(self, name: str) -> bool:
        return self.words[:1] in ((name,), (f".venv/bin/{name}",))


def found_in(text: str) -> Iterator[Command]:
    for block in blocks(text):
        for line in [] if block.language else commands(block):
            yield from _programs(line, whole=True)
    for code in inline_code(text):
        yield from _programs(code, whole=False)


def _programs(line: str, *, whole: bool) -> Iterator[Command]:
    """Those of a line of the shell, without the variables before them."""
    if not re.search(r"\b(sgaps|make|trainer\.train|\w+=)", line):
        return
    without_substitutions = re.sub(r"\$\([^()]*\)", "x", line)
    for part in re.split(r"&&|\|\|?|;", without_substitutions):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue  # no shell: a pattern, a quotation
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if words:
            yield Command(words=tuple(words), whole=whole)


def parse(arguments: Sequence[str]) -> None:
    """As `sgaps` does, up to the point where it would do something. Raises SystemExit."""
    if arguments[:1] and arguments[0] in OWN_PARSERS:
        OWN_PARSERS[arguments[0]]._parser().parse_intermixed_args(list(arguments[1:]))
        return
    command = typer.main.get_command(app)
    _do_nothing(command)
    command.main(list(arguments), prog_name="sgaps")


def _do_nothing(command: Any) -> None:
    for inner in getattr(command, "commands", {}).values():
        _do_nothing(inner)
    command.callback = None


def wrong(arguments: Sequence[str], said: pytest.CaptureFixture[str]) -> str:
    """What the command line has against them; nothing where it takes them."""
    try:
        parse(arguments)
    except SystemExit as ended:
        told = said.readouterr()
        return " ".join(told.err.split()) if ended.code else ""
    return ""


@pytest.mark.parametrize("name", FILES)
def test_every_sgaps_command_is_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in found_in((ROOT / name).read_text()):
        if not command.runs("sgaps"):
            continue
        trouble = wrong(command.words[1:], capsys)
        left_out = not command.whole and any(words in trouble for words in LEFT_OUT)
        assert not trouble or left_out, f"{shlex.join(command.words)}\n{trouble}"


def test_a_wrong_command_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    told = (
        "`sgaps plya x`, `sgaps play x --frame 3`, `sgaps train --key x --again`,\n"
        "`sgaps recordings lst`, `sgaps doctor --token`\n```\nsgaps play --json  # why\n```"
    )
    commands_ = [command for command in found_in(told) if command.runs("sgaps")]
    assert len(commands_) == 6
    troubles = [wrong(command.words[1:], capsys) for command in commands_]
    assert all(troubles)
    assert [any(words in t for words in LEFT_OUT) for t in troubles] == [True, *[False] * 4, True]


@pytest.mark.parametrize("name", FILES)
def test_every_target_of_make_is_there(name: str) -> None:
    for command in found_in((ROOT / name).read_text()):
        if command.runs("make"):
            wanted = {word for word in command.words[1:] if "=" not in word}
            assert wanted <= TARGETS, command.words


def overrides_in(name: str) -> list[list[str]]:
    """In what starts our programs, and in code that is nothing but overrides."""
    found = []
    for command in found_in((ROOT / name).read_text()):
        overrides = [word for word in command.words if OVERRIDE.fullmatch(word)]
        ours = command.runs("sgaps") or command.words[0].endswith(("python", "torchrun"))
        if overrides and (ours or len(overrides) == len(command.words)):
            found.append([word.replace("…", "x") for word in overrides])
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_override_is_of_a_setting(name: str) -> None:
    for overrides in overrides_in(name):
        load_settings(overrides, environment={})


def test_overrides_are_found() -> None:
    assert sum(map(len, map(overrides_in, FILES))) > 20


@pytest.mark.parametrize("name", FILES)
def test_every_link_leads_somewhere(name: str) -> None:
    here = ROOT / name
    for link in links(here.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (here.parent / path).resolve() if path else here
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_has_its_commands_where_they_are_run(name: str) -> None:
    """In blocks; and it is one page."""
    text = guide(name)
    assert len(text.splitlines()) <= 100
    named = [code for code in inline_code(text) if code.startswith(("docker ", "kubectl "))]
    assert named == []


@pytest.mark.parametrize("name", [*FILES, "monitoring/prometheus/prometheus.yml"])
def test_what_is_told_leaves_a_container_to_docker(name: str) -> None:
    """One that was sent a signal from outside counts as stopped: it stays away after a reboot."""
    assert not re.search(r"\bdocker (compose )?kill\b", (ROOT / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_an_argument(name: str) -> None:
    """All users of a machine see those, and one that begins with a dash is taken for an option."""
    assert not re.search(r"[^=]\"?\$\(cat ", (ROOT / name).read_text())
