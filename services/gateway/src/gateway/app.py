"""The FastAPI application: routes, the socket, who may call from a browser."""

from __future__ import annotations

import re
import time

from fastapi import FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from gateway.api import router
from gateway.session import SessionManager
from gateway.stream import Connection, Gateway, Load
from sgaps.bus import Bus
from sgaps.errors import BusError, ErrorCode
from sgaps.protocol.json_codec import encode
from sgaps.protocol.messages import Error
from sgaps.settings import ServerSettings, Settings

LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
CLOSE_POLICY_VIOLATION = 1008


def create_app(settings: Settings, bus: Bus) -> FastAPI:
    """Build the gateway's application; the caller runs it and its deliverer."""
    server = settings.server
    app = FastAPI(title="SGAPS-MAE gateway", version="0.1.0")
    app.state.gateway = Gateway(
        settings=settings,
        bus=bus,
        sessions=SessionManager(
            max_sessions=server.max_sessions, resume_window_secs=server.resume_window_secs
        ),
        load=Load(),
        started_at_secs=time.time(),
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(server.allowed_origins),
        allow_origin_regex=LOCALHOST if server.environment == "development" else None,
        allow_methods=["GET"],
        expose_headers=["X-Frame-Id", "X-Model-Version"],
    )
    app.include_router(router)
    app.add_exception_handler(BusError, _broker_missing)
    app.add_api_websocket_route("/ws/stream", _stream)
    return app


async def _broker_missing(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"the broker does not answer: {error}"}, status_code=503)


async def _stream(websocket: WebSocket) -> None:
    gateway: Gateway = websocket.app.state.gateway
    origin = websocket.headers.get("origin")
    if not is_origin_allowed(origin, gateway.settings.server):
        await websocket.accept()
        refusal = Error(
            code=ErrorCode.ORIGIN_REFUSED, message=f"origin {origin!r} is not allowed", fatal=True
        )
        await websocket.send_text(encode(refusal))
        await websocket.close(CLOSE_POLICY_VIOLATION, ErrorCode.ORIGIN_REFUSED)
        return
    await Connection(websocket, gateway).run()


def is_origin_allowed(origin: str | None, server: ServerSettings) -> bool:
    """CORS does not cover sockets: the same rule, applied by hand. Games send no Origin."""
    if origin is None or origin in server.allowed_origins:
        return True
    return server.environment == "development" and bool(re.fullmatch(LOCALHOST, origin))
