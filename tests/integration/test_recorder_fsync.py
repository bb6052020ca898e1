"""What the kernel saw: no entry is acknowledged before an fsync of the file that has its frame."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from integration.conftest import eventually
from integration.recorder_process import (
    frame,
    publish,
    recorded,
    recorder_starts,
    running_recorder,
)
from sgaps.messages import FrameAccepted
from sgaps.settings import Settings
from tools import require, require_tool

SESSIONS = ("one", "two", "three")
WRITES = ("pwrite64", "write", "pwritev", "writev", "ftruncate")
CALLS = ("fsync", "fdatasync", "recvfrom", "sendto", *WRITES)
CALL = re.compile(r"^(\d+) +(\w+)\(\d+<(.*?)>")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
ENTRY_ID = re.compile(r"(?:(?<!\d)|(?<=\\\d{3}))\d{13}-\d+")
"""Behind no digit, unless that is of a byte that strace wrote in octal."""


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    program = require_tool("strace", "strace")
    probe = subprocess.run([program, "-o", "/dev/null", "true"], check=False)
    require(probe.returncode == 0, "the right to trace processes")
    trace = ["-o", str(tmp_path / "trace"), "-s", "100000", "-e", f"trace={','.join(CALLS)}"]
    return [program, "-f", "-yy", "-qq", "-e", "signal=none", *trace]


@dataclass(kw_only=True)
class Life:
    """When things happened to a session's files and to an entry, as line numbers of the trace."""

    written: list[int] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)


async def test_every_acknowledgement_follows_an_fsync(
    settings: Settings, clean_broker: str, strace: list[str], tmp_path: Path
) -> None:
    bus_settings = settings.bus.model_copy(update={"url": clean_broker})
    settings = settings.model_copy(update={"bus": bus_settings})
    async with (
        running_recorder(settings, under=strace) as bus,
        Redis.from_url(clean_broker) as redis,
    ):
        await eventually(lambda: recorder_starts(bus), timeout_secs=40)
        for first in range(0, 60, 4):
            ids = range(first, first + 4)
            await publish(bus, [frame(name, number) for name in SESSIONS for number in ids])
            await asyncio.sleep(0.05)
        await eventually(lambda: _all_acknowledged(redis), timeout_secs=40)
        entries: Any = await redis.xrange(FrameAccepted.STREAM)
    assert recorded(settings) == {name: list(range(60)) for name in SESSIONS}
    session_of = {
        entry_id.decode(): FrameAccepted.decode(fields[b"m"]).session_id
        for entry_id, fields in entries
    }
    assert len(session_of) == len(SESSIONS) * 60
    _check((tmp_path / "trace").read_text().splitlines(), session_of)


async def _all_acknowledged(redis: Redis) -> bool:
    groups = await redis.xinfo_groups(FrameAccepted.STREAM)
    return any(
        group["name"] == b"recorder" and group["entries-read"] == 180 and group["pending"] == 0
        for group in groups
    )


def _check(lines: list[str], session_of: dict[str, str]) -> None:
    """Received, then written, then synced, then acknowledged, and nothing written in between."""
    received: dict[str, int] = {}
    acknowledged: dict[str, int] = {}
    lives = {name: Life() for name in SESSIONS}
    for number, (call, target, text) in enumerate(_events(lines)):
        life = next((lives[name] for name in SESSIONS if f"/{name}/0" in target), None)
        if life and call == "fsync":
            life.synced.append(number)
        elif life:
            life.written.append(number)
        seen = received if call == "recvfrom" else acknowledged if _acknowledges(text) else {}
        for entry_id in ENTRY_ID.findall(text):
            seen.setdefault(entry_id, number)
    assert min(len(life.synced) for life in lives.values()) > 5
    for entry_id, session_id in session_of.items():
        life, start, end = lives[session_id], received[entry_id], acknowledged[entry_id]
        written = max(number for number in life.written if number < end)
        synced = max(number for number in life.synced if number < end)
        assert start < written < synced < end, (entry_id, start, written, synced, end)


def _acknowledges(text: str) -> bool:
    """Ids are sent for other reasons too: how old the last one is, for the metrics."""
    return "sendto" in text and ("XACK" in text or "EVAL" in text)


def _events(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(call, file or socket, whole line). A sync counts when it ends, all else when it begins."""
    syncing: dict[str, str] = {}
    for line in lines:
        if begun := CALL.match(line):
            thread, call, target = begun.groups()
            if not call.endswith("sync"):
                yield call, target, line
            elif "<unfinished" in line:
                syncing[thread] = target
            elif line.endswith("= 0"):
                yield "fsync", target, line
        elif (resumed := RESUMED.match(line)) and line.endswith("= 0") and resumed[2] == "fsync":
            yield "fsync", syncing.pop(resumed[1]), line
        elif resumed and resumed[2] == "recvfrom":
            yield "recvfrom", "", line
