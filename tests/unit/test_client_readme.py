"""The game of the Python client's README, as it is printed, in a process of its own."""

from __future__ import annotations

import asyncio
import sys

from markdown_files import blocks
from paths import ROOT
from sgaps.protocol.messages import Keyframe
from unit.scripted_gateway import ScriptedGateway

README = (ROOT / "clients/python/README.md").read_text()


async def test_the_game_of_the_readme_plays() -> None:
    (program,) = (block for block in blocks(README) if block.language == "python")
    gateway = ScriptedGateway(keyframe_interval=5)
    async with gateway.running():
        code = "\n".join(program.lines).replace("ws://127.0.0.1:8000/ws/stream", gateway.url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
    assert process.returncode == 0
    frame_ids = gateway.frame_ids("session-0")
    count = len(frame_ids)
    assert said.decode() == f"session session-0: {count} sent, {count} accepted\n"
    assert gateway.starts[0].checkpoint_key == "my-game"
    keyframes = [m.frame_id for m in gateway.received if isinstance(m, Keyframe)]
    assert keyframes == [i for i in frame_ids if i % 5 == 0] != []
