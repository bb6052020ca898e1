"""Serving the page to this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from rich.console import Console

from sgaps.ending import end_signals
from sgaps.settings import Settings
from sgaps_cli.browser import look_at
from sgaps_cli.replay.app import create_app
from sgaps_cli.replay.desk import Desk, require_recordings
from sgaps_cli.replay.errors import ReplayError
from sgaps_cli.tables import unbroken

HOST = "127.0.0.1"
WAITING_CONNECTIONS = 64


def serve(folder: Path, settings: Settings, *, port: int, browser: bool) -> None:
    """Serve until Ctrl-C, SIGTERM or the end of the terminal. Raises ReplayError."""
    require_recordings(folder)
    console = unbroken(Console())
    with _listening(port) as listener:
        page = f"http://{HOST}:{listener.getsockname()[1]}/"
        console.print(f"replay     {page}", highlight=False, markup=False)
        console.print(f"recordings {folder.resolve()}", highlight=False, markup=False)
        console.print("Ctrl-C ends it", highlight=False)
        asyncio.run(_run(Desk(folder, settings), listener, page if browser else None))
    console.print("stopped", highlight=False)


def _listening(port: int) -> socket.socket:
    """Raises ReplayError. Who connects before the server runs is kept waiting, not refused."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(WAITING_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ReplayError(
            f"port {port} cannot be used ({error.strerror}); choose another with --port"
        ) from error
    return listener


async def _run(desk: Desk, listener: socket.socket, page: str | None) -> None:
    app = create_app(desk)
    server = _Server(uvicorn.Config(app, log_config=None, log_level="error", ws="none"))

    def end() -> None:
        server.force_exit = server.should_exit  # at the second Ctrl-C
        server.should_exit = True
        app.state.ending.set()

    for number in end_signals():
        asyncio.get_running_loop().add_signal_handler(number, end)
    if page:
        look_at(page)
    await server.serve([listener])


class _Server(uvicorn.Server):
    """Leaves the signals to us: to be asked to end is no failure."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
