"""The page and its questions over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from sgaps.errors import SgapsError
from sgaps.site import Site
from sgaps_cli.replay.desk import Desk
from sgaps_cli.replay.errors import NotListed, ReplayError

PAGE = Path(__file__).parent / "page"
OWN_NAMES = ["127.0.0.1", "localhost"]
"""A name that somebody points at this machine is none of them: its page could read all answers."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Answer = TypeVar("Answer")


def create_app(desk: Desk) -> Starlette:
    """The application; whatever it asks the desk, it asks in one thread.

    Once its `state.ending` is set, only the question at hand is answered.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay")

    ending = threading.Event()

    async def ask(question: Callable[..., Answer], *arguments: object) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(
            thread, _unless, ending, question, *arguments
        )

    async def catalog(_: Request) -> Response:
        return JSONResponse(await ask(desk.catalog), headers=HEADERS)

    async def recording(request: Request) -> Response:
        return JSONResponse(await ask(desk.recording, _text(request, "recording")), headers=HEADERS)

    async def frame(request: Request) -> Response:
        view = await ask(desk.view, *_place(request))
        return Response(view, media_type="application/octet-stream", headers=HEADERS)

    async def score(request: Request) -> Response:
        return JSONResponse(await ask(desk.score, *_place(request)), headers=HEADERS)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await ask(desk.prepare)
        yield
        await asyncio.to_thread(thread.shutdown)
        desk.close()

    app = Starlette(
        routes=[
            Route("/api/catalog", catalog),
            Route("/api/recording", recording),
            Route("/api/frame", frame),
            Route("/api/score", score),
            Mount("/", Site(PAGE)),  # the last: it takes every address
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=OWN_NAMES, www_redirect=False)],
        exception_handlers={SgapsError: _wrong},
        lifespan=lifespan,
    )
    app.state.ending = ending
    return app


def _unless(ending: threading.Event, question: Callable[..., Answer], *arguments: object) -> Answer:
    """What waited for its turn until the end is not begun any more. Raises ReplayError."""
    if ending.is_set():
        raise ReplayError("the server is ending; start it again: sgaps replay")
    return question(*arguments)


async def _wrong(_: Request, error: Exception) -> Response:
    """404 where it may have gone, 422 where it is there and cannot be used."""
    status = 404 if isinstance(error, NotListed) else 422
    told = {"error": type(error).__name__, "detail": str(error)}
    return JSONResponse(told, status_code=status, headers=HEADERS)


def _place(request: Request) -> tuple[str, int, str]:
    """Recording, position of the frame, checkpoint. Raises ReplayError."""
    position = _text(request, "position")
    if not (position.isascii() and position.isdecimal() and len(position) <= len(str(2**63))):
        raise ReplayError("position is the number of a frame in its recording, from 0")
    return _text(request, "recording"), int(position), _text(request, "checkpoint")


def _text(request: Request, name: str) -> str:
    """Raises ReplayError."""
    value = request.query_params.get(name)
    if value is None:
        raise ReplayError(f"say which {name}: ?{name}=…, as /api/catalog lists it")
    return value
