"""What the project's Markdown files hold: commands, code between backticks, links, anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paths import ROOT

GUIDES = ("for-game-developers", "for-researchers", "for-platform-engineers")
PLACES = (
    "*.md",
    "docs/*.md",
    "clients/python/*.md",
    "unity-client/*.md",
    "unity-client/Documentation~/*.md",
)
FENCE = "```"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Code between two fences."""

    language: str
    """What stands behind the first fence; nothing: commands."""
    lines: tuple[str, ...]


def files() -> list[Path]:
    return sorted(path for pattern in PLACES for path in ROOT.glob(pattern))


def guide(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def blocks(text: str) -> list[Block]:
    """All fenced code, in order."""
    found: list[Block] = []
    parts = re.split(rf"^{FENCE}", text, flags=re.MULTILINE)
    for inside in parts[1::2]:
        language, *lines = inside.rstrip("\n").split("\n")
        found.append(Block(language=language.strip(), lines=tuple(lines)))
    return found


def commands(block: Block) -> list[str]:
    """The lines of a block of commands, with those that go on joined."""
    joined = "\n".join(block.lines).replace("\\\n", " ")
    return [line.strip() for line in joined.split("\n") if line.strip() and line.lstrip()[0] != "#"]


def prose(text: str) -> str:
    """The text without fenced code."""
    return "\n".join(re.split(rf"^{FENCE}.*$", text, flags=re.MULTILINE)[0::2])


def inline_code(text: str) -> list[str]:
    """What stands between backticks; it may go on in the next line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def links(text: str) -> Iterator[str]:
    """The targets of links and pictures."""
    without_code = re.sub(r"`[^`]+`", "code", prose(text))
    yield from re.findall(r"\]\(([^)\s]+)\)", without_code)


def anchors(text: str) -> set[str]:
    """What a link may name behind #: headings, as GitHub writes them, and ids."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {_slug(heading) for heading in headings} | set(re.findall(r'\bid="([^"]+)"', text))


def _slug(heading: str) -> str:
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
