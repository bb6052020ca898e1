"""The game's client, in Node, against a real socket that breaks, forgets, pauses and refuses.

Not beside the tests in Chromium: those run inside playwright's loop, and these are async.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from browser.node import MODULES, node, node_program
from sgaps.protocol.messages import Error, FrameData, Heartbeat, Keyframe
from tools import require
from unit.scripted_gateway import ScriptedGateway

NODE_WITH_WEBSOCKET = 20
"""Behind a switch; from 22 on without it."""


async def played(gateway: ScriptedGateway, answers: int, *more: str) -> dict[str, Any]:
    """What a client saw that played until it had so many answers."""
    major = int((await asyncio.to_thread(node, "--version")).lstrip("v").split(".")[0])
    require(major >= NODE_WITH_WEBSOCKET, f"Node {NODE_WITH_WEBSOCKET}, which has a WebSocket,")
    switch = ["--experimental-websocket"] if major < 22 else []
    async with gateway.running():
        process = await asyncio.create_subprocess_exec(
            node_program(),
            *switch,
            str(MODULES / "play.mjs"),
            gateway.url,
            str(answers),
            *more,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    said: dict[str, Any] = json.loads(output)
    return said


async def test_frames_are_sent_and_answered_in_order() -> None:
    gateway = ScriptedGateway(keyframe_interval=3)
    saw = await played(gateway, 12, "keyframes")
    frames = gateway.frame_ids("session-0")
    assert saw["states"][:2] == ["connecting", "streaming"]
    assert frames == list(range(len(frames)))
    assert saw["answered"][:4] == [-1, 0, 1, 2]
    assert gateway.starts[0].auth_token == "open sesame"  # noqa: S105
    said = [message for message in gateway.received if isinstance(message, FrameData | Keyframe)]
    kinds = [(type(message), message.frame_id) for message in said[:6]]
    assert kinds == [
        (Keyframe, 0),
        (FrameData, 0),
        (FrameData, 1),
        (FrameData, 2),
        (Keyframe, 3),
        (FrameData, 3),
    ]
    first = next(message for message in said if isinstance(message, FrameData))
    assert first.state_vector == [1.0, 2.0]  # cut to what the server takes


async def test_no_frames_wait_on_a_network_that_is_slower_than_the_game() -> None:
    gateway = ScriptedGateway(stalls_secs=[3.5])
    await played(gateway, 220)
    kinds = [type(message) for message in gateway.received]
    third, fourth, *_ = [i for i, kind in enumerate(kinds) if kind is Heartbeat][2:]
    assert FrameData not in kinds[third:fourth]  # sent while the first had waited a second or two
    assert FrameData in kinds[fourth:]


async def test_a_lost_connection_is_resumed() -> None:
    gateway = ScriptedGateway(drop_at_frames={3, 6})
    saw = await played(gateway, 14)
    assert saw["sessions"] == ["session-0"]
    assert [start.resume_session_id for start in gateway.starts] == [None, "session-0", "session-0"]
    frames = gateway.frame_ids("session-0")
    assert frames == sorted(set(frames))
    assert sum(state.startswith("waiting: ") for state in saw["states"]) == 2


async def test_a_forgotten_session_is_begun_anew() -> None:
    gateway = ScriptedGateway(drop_at_frames={3}, forgets_sessions=True)
    saw = await played(gateway, 12)
    assert saw["sessions"] == ["session-0", "session-1"]
    assert gateway.frame_ids("session-1")[0] == 0


async def test_no_frame_is_sent_while_the_server_wants_a_pause() -> None:
    refusal = Error(code="overloaded", message="full", retry_after_secs=2)
    gateway = ScriptedGateway(refuse_frames={4: refusal})
    saw = await played(gateway, 10)
    assert saw["refusals"] == ["overloaded"]
    assert 1000 < saw["pausedMs"] <= 2000
    assert saw["states"] == ["connecting", "streaming", "stopped"]  # the connection stays
    # Those on their way when the refusal came; all others wait.
    assert gateway.frame_ids("session-0")[:4] == [0, 1, 2, 3]


async def test_a_gateway_that_stops_or_is_full_is_come_back_to() -> None:
    goodbye = Error(code="shutting_down", message="bye", fatal=True, retry_after_secs=0.3)
    full = Error(code="too_many_sessions", message="full", fatal=True, retry_after_secs=0.3)
    gateway = ScriptedGateway(refuse_starts=[full], refuse_frames={2: goodbye})
    saw = await played(gateway, 8)
    assert saw["states"] == [
        "connecting",
        "waiting: full",
        "connecting: full",
        "streaming",
        "waiting: bye",
        "connecting: bye",
        "streaming",
        "stopped",
    ]
    assert saw["sessions"] == ["session-0"]


async def test_a_refusal_for_good_ends_it() -> None:
    gateway = ScriptedGateway(refuse_starts=[Error(code="unauthorized", message="no", fatal=True)])
    saw = await played(gateway, 8)
    assert saw["states"] == ["connecting", "refused: no", "stopped"]
