"""The FastAPI application: routes, the socket, who may call from a browser."""

from __future__ import annotations

import time
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import api
from gateway.access import LOCALHOST
from gateway.api_models import SessionList
from gateway.connection import Connection
from gateway.delivery import Deliverer
from gateway.outlook import Outlook
from gateway.probe import Probe
from gateway.session import Places, SessionManager
from gateway.shared import Gateway
from gateway.swagger import SwaggerUi
from gateway.twins import Twins
from gateway.viewer import Viewer
from gateway.views import Views
from sgaps.bus import Bus
from sgaps.errors import BusError, BusFull
from sgaps.settings import Settings
from sgaps.site import Site

PAGE = Path(__file__).parent / "page"


class HeadAsGet:
    """HEAD is GET whose body uvicorn leaves out. FastAPI's routes know it not, and a route for it
    would stand in the schema: the pages, which take every address, would say 404."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send)


def create_app(settings: Settings, bus: Bus) -> FastAPI:
    """Build the gateway's application; the caller runs it, its deliverer, outlook and probe.

    Raises SettingsError where the token is missing.
    """
    server = settings.server
    sessions = SessionManager(server)
    probe = Probe(bus, gateway_id=server.gateway_id, interval_secs=server.probe_interval_secs)
    # FastAPI's own pages of the API load their scripts from elsewhere; ours is page/docs.
    app = FastAPI(title="SGAPS-MAE gateway", version="0.1.0", docs_url=None, redoc_url=None)
    app.state.gateway = Gateway(
        settings=settings,
        token=server.token(),
        bus=bus,
        sessions=sessions,
        session_list=SessionList(sessions),
        waiting=Places(
            server.max_waiting,
            server.max_waiting_per_address,
            who="connections",
            what="wait for their session",
        ),
        outlook=Outlook(
            bus,
            max_backlog=settings.bus.max_backlog,
            twins=Twins(server.gateway_id, instance=settings.instance),
        ),
        deliverer=Deliverer(
            bus, sessions, probe, gateway_id=server.gateway_id, settings=settings.bus
        ),
        probe=probe,
        views=Views(bus, sessions, settings),
        started_at_secs=time.time(),
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(server.allowed_origins),
        allow_origin_regex=LOCALHOST if server.environment == "development" else None,
        allow_methods=["GET"],
        allow_headers=["Authorization"],
        expose_headers=["X-Frame-Id", "X-Model-Version"],
    )
    app.include_router(api.open_router)
    app.include_router(api.guarded_router)
    app.add_exception_handler(BusError, _broker_missing)
    app.add_api_websocket_route("/ws/stream", _stream)
    app.add_api_websocket_route("/ws/view/{session_id}", _view)
    app.add_api_websocket_route("/{path:path}", _nothing)
    app.mount("/swagger", SwaggerUi())
    app.mount("/", Site(PAGE))  # the last: it takes every address
    return app


async def _broker_missing(_: Request, error: Exception) -> JSONResponse:
    trouble = "is full" if isinstance(error, BusFull) else "does not answer"
    return JSONResponse({"detail": f"the broker {trouble}: {error}"}, status_code=503)


async def _stream(websocket: WebSocket) -> None:
    await Connection(websocket, websocket.app.state.gateway).run()


async def _view(websocket: WebSocket, session_id: str) -> None:
    await Viewer(websocket, websocket.app.state.gateway, session_id).run()


async def _nothing(websocket: WebSocket) -> None:
    """Not 403, which a client takes for a proxy's, that may let it in later."""
    answer = PlainTextResponse("no socket is here: games play at /ws/stream", status_code=404)
    await websocket.send_denial_response(answer)
