"""The C# client on its real socket through the whole system, cut off on the way."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.conftest import System, start_system
from e2e.recordings import wait_until_recorded
from ports import free_port
from proxy import Proxy
from tools import require, require_tool
from unity.conftest import HERE, PACKAGE, Harness, run
from waiting import eventually

FRAMES = 200
CUT_AFTER_FRAMES = 80
OUTAGE_SECS = 1.0
NODE_WITH_WEBSOCKET = 20


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything as it is, but for training, and twice as fast."""
    running, process = start_system(
        tmp_path_factory.mktemp("data"),
        *("--set", "training.min_new_frames=100000", "--set", "target_fps=20"),
    )
    yield running
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


async def has_received(system: System, count: int) -> bool:
    async with httpx.AsyncClient(timeout=10) as http:
        sessions: list[dict[str, Any]] = (await http.get(f"{system.http_url}/api/sessions")).json()
    received: int = sum(session["frames_received"] for session in sessions)
    return received >= count


async def test_two_hundred_frames_through_a_cut(harness: Harness, system: System) -> None:
    wire = Proxy(system.port)
    await wire.start()
    try:
        url = f"ws://127.0.0.1:{wire.port}/ws/stream"
        game = await asyncio.create_subprocess_exec(
            *harness.command, "stream", url, "unity", str(FRAMES), stdout=asyncio.subprocess.PIPE
        )
        await eventually(lambda: has_received(system, CUT_AFTER_FRAMES))
        wire.hurt("cut")
        await asyncio.sleep(OUTAGE_SECS)
        await eventually(lambda: wire.refused)
        wire.heal()
        output, _ = await asyncio.wait_for(game.communicate(), 120)
    finally:
        await wire.stop()
    assert game.returncode == 0
    summary = json.loads(output)
    assert wire.refused >= 1, "it tried again while nobody listened"
    assert (summary["sessions"], summary["resumed"], summary["sent"]) == (1, 1, FRAMES)
    assert summary["lost_connections"] >= 1 + wire.refused
    assert summary["forms"] == "sgaps.v1.binary"
    # What was on the wire when it broke is lost; the server refuses none of the others.
    assert summary["refused"] == 0
    assert summary["accepted"] == FRAMES - summary["lost"] >= FRAMES - 10
    assert (summary["last_answered"], summary["last_recorded"]) == (FRAMES - 1, FRAMES - 1)
    assert summary["answered"] >= FRAMES / 20, "on a busy machine frames are superseded"
    assert summary["mean_side_px"] > 1, "squares were asked for"
    assert summary["keyframes"] >= FRAMES / 5 - 2
    assert summary["bytes_up"] / FRAMES < 6000, "keyframes included"
    frame_bytes = 600
    assert summary["garbage_bytes"] < FRAMES * frame_bytes / 5, "some buffers on a slow wire"
    recorded = wait_until_recorded(system, summary["session_id"], summary["accepted"])
    assert len(recorded) == recorded.total() == summary["accepted"]


def test_a_games_own_pattern_in_json(harness: Harness, system: System) -> None:
    """Points that the server did not choose; it answers and records them all the same."""
    summary = json.loads(harness("stream", system.ws_url, "unity", "30", "Stratified"))
    assert summary["forms"] == "sgaps.v1.json"
    assert (summary["sent"], summary["accepted"], summary["last_recorded"]) == (30, 30, 29)
    assert summary["mean_side_px"] == 1
    assert summary["answered"] > 0


def test_the_inspectors_button_finds_the_gateway(harness: Harness, system: System) -> None:
    report = harness("test-gateway", system.ws_url, "unity")
    assert report.startswith("The gateway works: 500 coordinates after ")
    assert ", sgaps.v1.binary, model " in report


def test_the_inspectors_button_says_what_is_wrong(harness: Harness, system: System) -> None:
    """In the words that Documentation~ explains."""
    guide = (PACKAGE / "Documentation~" / "index.md").read_text()
    nobody = f"ws://127.0.0.1:{free_port()}/ws/stream"
    for endpoint, reason in {
        nobody: "Connection refused",
        system.ws_url + "s": "Unable to connect to the remote server",
        system.ws_url.replace("ws:", "wss:"): "Ssl error",
    }.items():
        assert harness("test-gateway", endpoint, "unity").startswith(f"No connection: {reason}")
        assert f"| *{reason}" in guide


def through_a_browsers_socket(url: str) -> dict[str, Any]:
    """One frame by the .jslib of WebGL players, on Node's own WebSocket."""
    node = require_tool("node", "nodejs")
    major = int(run(node, "--version").lstrip("v").split(".")[0])
    require(major >= NODE_WITH_WEBSOCKET, f"Node {NODE_WITH_WEBSOCKET}, which has a WebSocket,")
    jslib = PACKAGE / "Runtime" / "Plugins" / "WebGL" / "SgapsWebSocket.jslib"
    program = HERE / "stubs" / "gateway.js"
    said: dict[str, Any] = json.loads(run(node, "--experimental-websocket", program, jslib, url))
    return said


def test_the_browsers_socket_speaks_with_the_gateway(system: System) -> None:
    assert through_a_browsers_socket(system.ws_url) == {
        "subprotocol": "sgaps.v1.binary",
        "acknowledged": "session_start_ack",
        "places": 500,
        "answered": 0,
    }
    nobody = through_a_browsers_socket(f"ws://127.0.0.1:{free_port()}/ws/stream")
    assert nobody == {"error": "the connection failed; the browser's console says more"}
