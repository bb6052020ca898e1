"""What tests have the live page shown, without a gateway: sessions, and views of them."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from playwright.sync_api import Page, WebSocketRoute

from browser.conftest import SESSION_ID, list_sessions
from browser.game_page import eventually
from sgaps.protocol.views import (
    Counters,
    ImportanceShown,
    Parts,
    StagesMs,
    View,
    ViewHeader,
    encode_view,
)
from sgaps_client.pictures import encoded_png

OTHER_ID = "fedcba9876543210"
SESSION = {
    "session_id": SESSION_ID,
    "checkpoint_key": "k",
    "client": "c",
    "width": 8,
    "height": 6,
    "connected": True,
    "started_at_secs": 1.0,
    "duration_secs": 1.0,
    "frames_received": 1,
    "frames_answered": 1,
    "messages_refused": 0,
    "latency_p50_ms": None,
    "latency_p99_ms": None,
    "model_version": None,
}
OTHER = {**SESSION, "session_id": OTHER_ID, "checkpoint_key": "other", "started_at_secs": 0.5}
COUNTERS = Counters(
    frames_received=0,
    frames_answered=0,
    frames_dropped=0,
    messages_refused=0,
    bytes_up=0,
    bytes_down=0,
)
BLACK = encoded_png(np.zeros((6, 8), np.uint8))
SAMPLE = bytes(6)

WATCH = """async id => { (await import("/game/views.js")).watch(id, { refused: () => {} }); }"""
"""What the game's page does to see the pictures of a session."""


def refuse_views(page: Page, **error: Any) -> list[float]:
    """Every viewer is sent away like this; when they came."""
    came: list[float] = []

    def refuse(socket: WebSocketRoute) -> None:
        came.append(time.monotonic())
        socket.send(json.dumps({"type": "error", "fatal": True, **error}))
        socket.close(code=1008)

    page.route_web_socket("**/ws/view/*", refuse)
    return came


def view_of(
    session_id: str,
    value: float = 1.0,
    *,
    frame_id: int = 1,
    picture: bytes = BLACK,
    truth: bytes = b"",
    size: tuple[int, int] = (8, 6),
    sample_error: float | None = None,
) -> bytes:
    """A frame of one sample with this state value."""
    header = ViewHeader(
        session_id=session_id,
        frame_id=frame_id,
        model_version="v1",
        width=size[0],
        height=size[1],
        predicted_psnr=20,
        measured_psnr=None,
        sample_error=sample_error,
        received_at=1,
        stages_ms=StagesMs(queue=1, inference=1, answer=1),
        counters=COUNTERS,
        state=[value],
        importance=ImportanceShown(frame_id=frame_id, width=1, height=1),
        true_frame="png" if truth else None,
        parts=Parts(
            reconstruction=len(picture),
            samples=len(SAMPLE),
            importance=1,
            true_frame=len(truth),
        ),
    )
    view = View(
        header=header,
        reconstruction=picture,
        samples=SAMPLE,
        importance=b"\x00",
        true_frame=truth,
    )
    return encode_view(view)


def watched(page: Page, url: str, *others: dict[str, Any]) -> WebSocketRoute:
    """The live page's socket, with one session to look at, and others that are older."""
    viewers: list[WebSocketRoute] = []
    page.route_web_socket("**/ws/view/*", lambda one: viewers.append(one))  # noqa: PLW0108
    list_sessions(page, SESSION, *others)
    page.goto(url)
    return eventually(page, lambda: viewers)[0]
