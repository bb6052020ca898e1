"""`sgaps play`: what it says while it plays."""

from __future__ import annotations

import asyncio
import io

from rich.console import Console

from sgaps_cli.play import play_with_line
from unit.scripted_gateway import ScriptedGateway
from unit.test_client_player import Flat, options


async def test_the_line_of_figures_ends_where_nobody_watches_it() -> None:
    """The summary was glued to it."""
    gateway, piped = ScriptedGateway(), io.StringIO()
    async with gateway.running():
        chosen, console = options(gateway, frames=2), Console(file=piped)
        await play_with_line(Flat(), chosen, stop=asyncio.Event(), console=console)
    assert piped.getvalue().endswith("\n")
