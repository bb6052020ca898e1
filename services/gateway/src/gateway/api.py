"""The HTTP side: health, status, sessions, pictures, checkpoints, metrics."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import asyncapi
from gateway.access import client_address, needs_safe_host, needs_token
from gateway.api_models import (
    CheckpointStatus,
    Health,
    Ready,
    ServiceStatus,
    SessionStatus,
    SystemStatus,
    session_status,
)
from gateway.readiness import what_is_missing
from gateway.serving import serving_map, version_for
from gateway.session import COME_BACK_SECS, Session
from gateway.shared import Gateway
from gateway.views import VIEWS_AT_ONCE
from sgaps.bus import Bus, in_flight
from sgaps.checkpoints import CheckpointDirectory
from sgaps.errors import CheckpointError, ProtocolError
from sgaps.manifest import Manifest
from sgaps.messages import CoordinatesChosen, ViewEncoded
from sgaps.protocol.views import decode_view

VIEW_WAIT_SECS = 2.0
IMPORTANCE_SCALE = 8

BROKER_MISSING = {"description": "The broker does not answer."}
open_router = APIRouter(responses={503: BROKER_MISSING})
guarded_router = APIRouter(
    dependencies=[Depends(needs_token), Depends(needs_safe_host)],
    responses={
        401: {"description": "The token is missing."},
        403: {"description": "There is no token, and the Host is a name that may be anybody's."},
        503: BROKER_MISSING,
    },
)


def the_gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


TheGateway = Annotated[Gateway, Depends(the_gateway)]


@open_router.get("/api/health")
async def health() -> Health:
    """The process answers."""
    return Health(status="ok")


@open_router.get("/api/ready", responses={503: {"model": Ready}})
async def ready(gateway: TheGateway, response: Response) -> Ready:
    """Whether frames would be answered and recorded now; 503 where not."""
    why = what_is_missing(gateway)
    if why:
        response.status_code = 503
    return Ready(ready=not why, missing=list(why), why=why)


@open_router.get("/asyncapi.json", include_in_schema=False)
async def sockets() -> JSONResponse:
    """What goes over the sockets, for machines."""
    return JSONResponse(asyncapi.document())


@guarded_router.get("/api/status")
async def status(gateway: TheGateway) -> SystemStatus:
    """Uptime, sessions, the frame ledger, and every live process."""
    services = gateway.outlook.services
    counts = await gateway.bus.ledger()
    now_secs = time.time()
    return SystemStatus(
        uptime_secs=now_secs - gateway.started_at_secs,
        active_sessions=gateway.sessions.connected_count,
        frames_processed=counts.get("delivered", 0),
        ledger={**counts, "in_flight": in_flight(counts)},
        model_versions=serving_map(services),
        services=[
            ServiceStatus(
                service=s.service,
                instance=s.instance,
                uptime_secs=now_secs - s.started_at_secs,
                ready=s.ready,
                reason=s.reason,
                status=s.status,
            )
            for s in services
        ],
    )


@guarded_router.get("/api/sessions", response_model=list[SessionStatus])
async def sessions(gateway: TheGateway) -> Response:
    """Sessions of this gateway, the disconnected ones too while they can be resumed.

    The answer is at most a second old.
    """
    return Response(gateway.session_list.json(), media_type="application/json")


@guarded_router.get("/api/sessions/{session_id}", responses={404: {}})
async def session(session_id: str, gateway: TheGateway) -> SessionStatus:
    return session_status(_find(gateway, session_id))


@guarded_router.get(
    "/api/sessions/{session_id}/reconstruction.png",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}},
        404: {},
        503: {"description": "What makes them, or the broker, is missing; or too many look."},
    },
)
async def reconstruction(request: Request, session_id: str, gateway: TheGateway) -> Response:
    """The newest reconstruction; the header X-Frame-Id tells the frame it belongs to.

    Pictures are made only while somebody looks, so a look waits for the next frame.
    """
    _find(gateway, session_id)
    try:
        with gateway.views.of(session_id, client_address(request)) as newest:
            shown = await newest.take(VIEW_WAIT_SECS)
    except ProtocolError as error:
        headers = {"Retry-After": f"{COME_BACK_SECS:.0f}"}
        raise HTTPException(503, error.message, headers) from error
    if shown is None:
        if newest.trouble is not None:
            raise newest.trouble
        return await _older_picture(gateway, session_id)
    view = decode_view(shown)
    header = view.header
    return _png(view.reconstruction, frame_id=header.frame_id, version=header.model_version)


@guarded_router.get(
    "/api/sessions/{session_id}/importance.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, 404: {}},
)
async def importance(session_id: str, gateway: TheGateway) -> Response:
    """The importance map the newest coordinates were drawn from; white = most important."""
    chosen = _find(gateway, session_id).coordinates
    if chosen is None:
        raise HTTPException(404, "no importance yet: no frame was answered")
    # Of the largest session it takes 40 ms, in which all others would wait.
    encoded = await asyncio.to_thread(importance_png, chosen)
    return _png(encoded, frame_id=chosen.frame_id, version=chosen.model_version)


@guarded_router.get("/api/checkpoints")
async def checkpoints(gateway: TheGateway) -> list[CheckpointStatus]:
    """The current checkpoint of every key, and whether it is the one that serves."""
    serving = serving_map(gateway.outlook.services)
    data = gateway.settings.data
    directories = (CheckpointDirectory(data.checkpoints_dir), CheckpointDirectory(data.shipped_dir))
    return [
        CheckpointStatus(
            checkpoint_key=manifest.checkpoint_key,
            model_version=manifest.model_version,
            val_psnr_db=manifest.metrics.val_psnr_db,
            created_at=manifest.created_at,
            serving=version_for(serving, manifest.checkpoint_key) == manifest.model_version,
        )
        for directory in directories
        for key in _keys(directory)
        if (manifest := _current(directory, key)) is not None
    ]


@guarded_router.get("/metrics", include_in_schema=False)
async def prometheus() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _keys(directory: CheckpointDirectory) -> list[str]:
    try:
        return directory.all_keys()
    except CheckpointError as error:
        raise HTTPException(503, str(error)) from error


def _current(directory: CheckpointDirectory, key: str) -> Manifest | None:
    try:
        return directory.current(key)
    except CheckpointError:
        return None  # a torn one is reported by the reconstructor that refuses it


async def _older_picture(gateway: Gateway, session_id: str) -> Response:
    """What was made before, of a game that pauses. Raises HTTPException, BusError."""
    stream = ViewEncoded.stream_of(session_id)
    entries = await gateway.bus.tail(stream, Bus.START, count=VIEWS_AT_ONCE, block_secs=0)
    if not entries:
        raise _no_view(gateway)
    view = ViewEncoded.decode(entries[-1].data)
    return _png(view.reconstruction_png, frame_id=view.frame_id, version=view.model_version)


def _no_view(gateway: Gateway) -> HTTPException:
    if why := what_is_missing(gateway):
        told = "; ".join(f"{name}: {reason}" for name, reason in why.items())
        return HTTPException(503, f"no reconstruction yet: {told}")
    return HTTPException(
        404,
        f"no reconstruction yet: no frame of this session was rebuilt in {VIEW_WAIT_SECS:g} s; "
        "does its game send any?",
    )


def importance_png(chosen: CoordinatesChosen) -> bytes:
    """The map, each of its places `IMPORTANCE_SCALE` pixels wide and high."""
    grid = np.frombuffer(chosen.importance, dtype=np.uint8)
    picture = Image.fromarray(grid.reshape(chosen.importance_height, chosen.importance_width))
    size = (picture.width * IMPORTANCE_SCALE, picture.height * IMPORTANCE_SCALE)
    encoded = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(encoded, "PNG")
    return encoded.getvalue()


def _find(gateway: Gateway, session_id: str) -> Session:
    session = gateway.sessions.get(session_id)
    if session is None:
        raise HTTPException(404, "no such session on this gateway")
    return session


def _png(data: bytes, *, frame_id: int, version: str) -> Response:
    return Response(
        data,
        media_type="image/png",
        headers={
            "X-Frame-Id": str(frame_id),
            "X-Model-Version": version,
            "Cache-Control": "no-store",
        },
    )
