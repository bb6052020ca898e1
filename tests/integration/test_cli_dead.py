"""`sgaps dead` on the real broker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from contract.conftest import frame
from integration.conftest import with_changes
from sgaps.bus import Publish, RedisBus
from sgaps.errors import BusUnavailable, SettingsError
from sgaps.messages import DeadLetter, FrameAccepted
from sgaps.settings import Settings
from sgaps_cli import dead
from sgaps_cli.commands import app
from sgaps_cli.data_folder import Running, alone_in, tell


async def bury(settings: Settings, data: bytes, reason: str) -> None:
    letter = DeadLetter(
        source_stream=FrameAccepted.STREAM,
        group="recorder",
        entry_id="1-1",
        deliveries=3,
        reason=reason,
        data=data,
    )
    bus = RedisBus(settings.bus)
    await bus.write(Publish(letter))
    await bus.close()


def told(settings: Settings, *options: str) -> str:
    done = CliRunner().invoke(app, ["dead", "--redis", settings.bus.url, *options])
    assert done.exit_code == 0, done.output
    return done.output


async def test_dead_letters_are_told_with_their_frame_and_reason(
    gateway_settings: Settings,
) -> None:
    await bury(gateway_settings, frame(7, "somebody").encode(), "its consumers failed or died")
    await bury(gateway_settings, b"garbage", "not a FrameAccepted")
    first, second = json.loads(await asyncio.to_thread(told, gateway_settings, "--json"))
    assert (first["session_id"], first["frame_id"], first["deliveries"]) == ("somebody", 7, 3)
    assert first["reason"] == "its consumers failed or died"
    assert (second["session_id"], second["frame_id"], second["size_bytes"]) == ("", None, 7)


async def test_no_letter_hides_the_others(gateway_settings: Settings) -> None:
    """One of another release, and one whose reason is no markup."""
    async with Redis.from_url(gateway_settings.bus.url) as redis:
        await redis.xadd(DeadLetter.STREAM, {"m": b"of another release"})
    await bury(gateway_settings, b"garbage", "no room in [/data/recordings]")
    shown = await asyncio.to_thread(told, gateway_settings, "--remove")
    assert "cannot be read" in shown
    assert "[/data/recordings]" in shown
    assert "no dead letters" in await asyncio.to_thread(told, gateway_settings)


def test_a_broker_that_is_not_there_is_told_with_its_cure() -> None:
    done = CliRunner().invoke(app, ["dead", "--redis", "redis://127.0.0.1:1/0"])
    assert isinstance(done.exception, BusUnavailable)
    assert "Name the broker with --redis" in str(done.exception)


async def test_an_empty_redis_url_is_none(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As for `sgaps up` and `sgaps doctor`."""
    command = ["dead", "--data-dir", str(tmp_path)]
    with alone_in(tmp_path) as lock:
        tell(lock, Running(port=1, broker_url=gateway_settings.bus.url))
        monkeypatch.setenv("REDIS_URL", "")
        done = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert "no dead letters" in done.output
    monkeypatch.setenv("REDIS_URL", "")
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert not isinstance(done.exception, SettingsError)  # whether one is at the usual port or not


async def test_what_was_listed_is_removed_if_that_is_wished(gateway_settings: Settings) -> None:
    for number in range(2):
        await bury(gateway_settings, frame(number, "somebody").encode(), "died")
    for _ in range(2):
        assert len(json.loads(await asyncio.to_thread(told, gateway_settings, "--json"))) == 2
    removed = await asyncio.to_thread(told, gateway_settings, "--json", "--remove")
    assert [letter["frame_id"] for letter in json.loads(removed)] == [0, 1]
    assert "no dead letters" in await asyncio.to_thread(told, gateway_settings, "--remove")


async def test_of_many_the_newest_are_shown(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "NEWEST", 2)
    for number in range(3):
        await bury(gateway_settings, frame(number, f"player-{number}").encode(), "died")
    shown = await asyncio.to_thread(told, gateway_settings)
    assert "player-0" not in shown
    assert "player-1" in shown
    assert "the newest 2 of 3; all of them: sgaps dead --all" in shown
    for options in (["--all"], ["--remove"]):
        everything = await asyncio.to_thread(told, gateway_settings, *options)
        assert "player-0" in everything
        assert "the newest" not in everything
    assert "no dead letters" in await asyncio.to_thread(told, gateway_settings)


@pytest.mark.parametrize("more", ["", "?db=0"])
async def test_nothing_dead_is_said_so(gateway_settings: Settings, more: str) -> None:
    url = gateway_settings.bus.url + more
    settings = with_changes(gateway_settings, bus={"url": url})
    assert "no dead letters" in await asyncio.to_thread(told, settings)
