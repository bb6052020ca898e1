"""`sgaps play`: under what key, and what it says while it plays."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from ports import free_port
from sgaps.errors import SourceError
from sgaps.protocol.messages import Error
from sgaps_cli import play as play_module
from sgaps_cli.play import key_of, open_anew, play_with_line
from sgaps_client.sources import GameFrame
from sgaps_command import SGAPS, run_here
from unit.flat_game import Flat, options
from unit.scripted_gateway import ScriptedGateway
from waiting import PATIENCE_SECS


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("doom/my_way_home", "doom-my_way_home"),
        ("clip.mp4", "clip"),
        ("./clip.avi", "clip"),
        ("clips/clip.mkv", "clip"),
        ("-clip (1).mp4", "clip-1"),
        ("pictures/", "pictures"),
        (f"{'long' * 20}.mp4", "long" * 16),
    ],
)
def test_a_key_follows_from_the_name_alone(source: str, key: str) -> None:
    assert key_of(source, None) == key
    assert key_of(source, "mine") == "mine"


def test_here_is_a_folder_of_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "holiday").mkdir()
    monkeypatch.chdir(tmp_path / "holiday")
    assert key_of(".", None) == "holiday"


def test_neither_a_links_target_nor_a_folders_dots_make_the_key(tmp_path: Path) -> None:
    (tmp_path / "0123abc").touch()
    (tmp_path / "level.mp4").symlink_to("0123abc")
    (tmp_path / "walk.v2").mkdir()
    assert key_of(f"{tmp_path}/level.mp4", None) == "level"
    assert key_of(f"{tmp_path}/walk.v2", None) == "walk-v2"


def test_where_no_seed_is_chosen_it_is_another_each_time_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one seed a game is the same play: what was trained on would come back as held out."""
    said, seeds = io.StringIO(), list[int]()
    with pytest.raises(SourceError):
        open_anew("atari/pnog", Console(file=said))
    monkeypatch.setattr(play_module, "open_source", lambda *_, seed, **__: seeds.append(seed))
    for _ in range(4):
        open_anew("doom/my_way_home", Console(file=said))
    assert len(set(seeds)) == 4
    assert said.getvalue() == "".join(f"seed      {seed}\n" for seed in seeds)


async def test_the_line_of_figures_ends_where_nobody_watches_it() -> None:
    """The summary was glued to it."""
    gateway, piped = ScriptedGateway(), io.StringIO()
    async with gateway.running():
        chosen, console = options(gateway, frames=2), Console(file=piped)
        await play_with_line(Flat(), chosen, stop=asyncio.Event(), console=console)
    assert piped.getvalue().endswith("\n")


class HungUp(Flat):
    """In its middle our terminal is closed."""

    def frames(self) -> Iterator[GameFrame]:
        yield from islice(super().frames(), 3)
        os.kill(os.getpid(), signal.SIGHUP)
        yield from super().frames()


async def test_a_play_ends_with_its_terminal() -> None:
    gateway = ScriptedGateway()
    before = signal.signal(signal.SIGHUP, lambda *_: None)  # nothing that ends these tests
    try:
        async with gateway.running(), asyncio.timeout(PATIENCE_SECS):
            summary = await play_module._play_until_interrupted(
                HungUp, options(gateway), Console(file=io.StringIO())
            )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert summary.sent >= 3


async def test_in_a_pipe_a_line_is_a_line() -> None:
    """The live one and the summary were broken after 80 columns."""
    gateway = ScriptedGateway()
    async with gateway.running():
        command = (SGAPS, "play", "atari/pong", "--frames", "2", "--url", gateway.url)
        run = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await run.communicate()
    seed, live, sent, latency, total = out.decode().splitlines()
    assert seed.startswith("seed ")
    assert live.endswith("model telea")
    assert sent.endswith("dropped on a slow network 0")
    assert latency.startswith("latency p50 ")
    assert total.endswith(" in 1 sessions")


async def test_who_is_refused_for_his_token_is_told_how_to_give_it() -> None:
    refusal = Error(code="unauthorized", message="auth_token is wrong or missing", fatal=True)
    gateway = ScriptedGateway(refuse_starts=[refusal])
    async with gateway.running():
        command = (SGAPS, "play", "atari/pong", "--frames", "2", "--url", gateway.url)
        run = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, told = await run.communicate()
    assert run.returncode == 1
    assert "auth_token is wrong or missing; give its token with --token or in" in told.decode()


def test_a_gateway_that_is_not_there_fails_the_play(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((6, 8), np.uint8))
    url = f"ws://127.0.0.1:{free_port()}/ws/stream"
    done = run_here("play", tmp_path, "--key", "k", "--url", url, "--wait", 0, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    *_, told = done.stderr.splitlines()
    assert told.startswith(f"sgaps: no session within 0 s: no connection to {url} ")


async def test_a_source_is_played_in_another_width_under_the_same_key(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    cv2.imwrite(str(tmp_path / "walk" / "0.png"), np.zeros((6, 8), np.uint8))
    gateway = ScriptedGateway()
    async with gateway.running():
        command = (SGAPS, "play", tmp_path / "walk", "--width", "4", "--url", gateway.url)
        await (await asyncio.create_subprocess_exec(*command)).wait()
    (start,) = gateway.starts
    assert (start.resolution.width, start.resolution.height) == (4, 3)
    assert start.checkpoint_key == "walk"
