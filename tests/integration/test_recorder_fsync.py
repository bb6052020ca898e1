"""What the kernel saw: no entry is acknowledged before an fsync of the file that has its frame."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from integration.recorder_process import publish, recorder_starts, running_recorder
from recorder_frames import frame, recorded
from sgaps.messages import FrameAccepted
from sgaps.settings import Settings
from tools import require, require_tool
from waiting import eventually

SESSIONS = ("one", "two", "three")
WRITES = ("pwrite64", "write", "pwritev", "writev", "ftruncate")
SYNCS = ("fsync", "fdatasync")
CALLS = ("recvfrom", "sendto", *SYNCS, *WRITES)
CALL = re.compile(r"^(\d+) +(\w+)\(\d+<(.*?)>")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
FAILED = re.compile(r"= (-1 E\w+ \(.*\)|\?)$")
ENTRY_ID = re.compile(r"(?:(?<!\d)|(?<=\\\d{3}))\d{13}-\d+")
"""Behind no digit, unless that is of a byte that strace wrote in octal."""


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    program = require_tool("strace", "strace")
    probe = subprocess.run([program, "-o", "/dev/null", "true"], check=False)
    require(probe.returncode == 0, "the right to trace processes")
    trace = ["-o", str(tmp_path / "trace"), "-s", "100000", "-e", f"trace={','.join(CALLS)}"]
    return [program, "-f", "-yy", "-qq", "-e", "signal=none", *trace]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of the system that did not fail: the lines of the trace where it began and ended."""

    name: str
    target: str
    """File or socket."""
    begin: int
    end: int
    text: str


@dataclass(kw_only=True)
class Life:
    """What was done with a session's files."""

    writes: list[Call] = field(default_factory=list)
    syncs: list[Call] = field(default_factory=list)


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
    """Received, then written, then synced from begin to end, then acknowledged."""
    received: dict[str, int] = {}
    acknowledged: dict[str, int] = {}
    lives = {name: Life() for name in SESSIONS}
    for call in _calls(lines):
        life = next((lives[name] for name in SESSIONS if f"/{name}/0" in call.target), None)
        if life:
            (life.syncs if call.name in SYNCS else life.writes).append(call)
        elif call.name == "recvfrom":
            _note(call.text, call.end, received)
        elif _acknowledges(call):
            _note(call.text, call.begin, acknowledged)
    assert min(len(life.syncs) for life in lives.values()) > 5
    assert session_of.keys() <= acknowledged.keys()
    for entry_id, session_id in session_of.items():
        life, start, end = lives[session_id], received[entry_id], acknowledged[entry_id]
        written = max((call for call in life.writes if call.begin < end), key=lambda c: c.begin)
        assert start < written.begin, (entry_id, start, written, end)
        assert any(
            call.target == written.target and written.end < call.begin and call.end < end
            for call in life.syncs
        ), (entry_id, start, written, end)


def _note(text: str, line: int, seen: dict[str, int]) -> None:
    for entry_id in ENTRY_ID.findall(text):
        seen[entry_id] = min(line, seen.get(entry_id, line))


def _acknowledges(call: Call) -> bool:
    """Ids are sent for other reasons too: how old the last one is, for the metrics."""
    return call.name == "sendto" and ("XACK" in call.text or "EVAL" in call.text)


def _calls(lines: list[str]) -> Iterator[Call]:
    """In the order in which they ended; where another thread's line came between, of two lines."""
    begun: dict[str, Call] = {}
    for number, line in enumerate(lines):
        if match := CALL.match(line):
            thread, name, target = match.groups()
            call = Call(name=name, target=target, begin=number, end=number, text=line)
            if line.endswith("<unfinished ...>"):
                begun[thread] = call
            elif not FAILED.search(line):
                yield call
        elif (match := RESUMED.match(line)) and match[1] in begun:
            call = begun.pop(match[1])
            assert call.name == match[2]
            if not FAILED.search(line):
                yield replace(call, end=number, text=call.text + line)
