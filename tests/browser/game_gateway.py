"""A gateway that tests of the game's page play: one place, and answers to every frame."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from playwright.sync_api import WebSocketRoute

from browser.conftest import SESSION_ID, Tab
from browser.game_page import UNHEARD, wait_for_state
from browser.walks import HEIGHT, WIDTH
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.messages import (
    Heartbeat,
    HeartbeatAck,
    SessionStart,
    SessionStartAck,
    UvCoordinates,
)
from sgaps_client.pictures import encoded_png

GRANTED = 300
"""Samples that the gateway gives who wishes for none."""
FULL = {"code": "too_many_sessions", "message": "64 viewers", "retry_after_secs": 1}
HIDE = """isHidden => {
  Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""As when another tab is looked at, which a browser without windows never does."""


@dataclass
class Gateway:
    """Playwright chooses the client's first form, the binary one; its own messages may be JSON."""

    streams: list[WebSocketRoute] = field(default_factory=list)
    viewers: list[WebSocketRoute] = field(default_factory=list)
    starts: list[SessionStart] = field(default_factory=list)
    frames: list[binary_codec.ValuesOfFrame] = field(default_factory=list)
    is_full: bool = False
    """It sends all viewers away."""
    is_shut: bool = False
    """It lets no viewer in, and says nothing."""
    is_silent: bool = False
    """It answers no frame."""
    is_deaf: bool = False
    """It answers no heartbeat."""

    def stream(self, socket: WebSocketRoute) -> None:
        self.streams.append(socket)
        socket.on_message(lambda raw: self._take(socket, raw))

    def view(self, socket: WebSocketRoute) -> None:
        self.viewers.append(socket)
        if self.is_full:
            refuse(socket)
        if self.is_shut:
            socket.close()

    def _take(self, socket: WebSocketRoute, raw: str | bytes) -> None:
        message = decoded(raw)
        if isinstance(message, SessionStart):
            self.starts.append(message)
            socket.send(self._ack(message))
            socket.send(coordinates(-1))
        elif isinstance(message, binary_codec.ValuesOfFrame):
            self.frames.append(message)
            if not self.is_silent:
                socket.send(coordinates(message.frame_id))
        elif isinstance(message, Heartbeat) and not self.is_deaf:
            heard = HeartbeatAck(
                timestamp=message.timestamp,
                server_time=1,
                last_recorded_frame_id=-1,
                target_fps=10,
            )
            socket.send(json_codec.encode(heard))

    def _ack(self, start: SessionStart) -> str:
        wished = start.sampling and start.sampling.sample_count
        ack = SessionStartAck(
            session_id=SESSION_ID,
            checkpoint_loaded=True,
            sample_count=wished or GRANTED,
            max_state_dim=64,
            target_fps=10,
            model_version="v1",
            coordinate_set_id=1,
            keyframe_interval=0,
            resumed=start.resume_session_id is not None,
            last_frame_id=self.frames[-1].frame_id if self.frames else -1,
        )
        return json_codec.encode(ack)


def refuse(viewer: WebSocketRoute) -> None:
    viewer.send(json.dumps({"type": "error", "fatal": True, **FULL}))
    viewer.close(code=1008)


def decoded(raw: str | bytes) -> object:
    if isinstance(raw, str):
        return json_codec.decode_client_message(raw)
    return binary_codec.decode_client_message(raw)


def coordinates(frame_id: int) -> str:
    message = UvCoordinates(
        frame_id=frame_id, coordinate_set_id=1, coords=[(0.5, 0.5)], model_version="v1"
    )
    return json_codec.encode(message)


GRAY = encoded_png(np.full((HEIGHT, WIDTH), 128, np.uint8))


def view_of(frame: binary_codec.ValuesOfFrame, picture: bytes = GRAY) -> bytes:
    """A picture of it, as viewers get it."""
    header = {
        "session_id": SESSION_ID,
        "frame_id": frame.frame_id,
        "parts": {"reconstruction": len(picture), "samples": 0, "importance": 0, "true_frame": 0},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<2sBBI", b"SG", 1, 4, len(raw)) + raw + picture


@contextmanager
def opened(tab: Tab, url: str) -> Iterator[Gateway]:
    """With the game open and connected."""
    played = Gateway()
    tab.page.route_web_socket("**/ws/stream", played.stream)
    tab.page.route_web_socket("**/ws/view/*", played.view)
    tab.page.goto(f"{url}/game/")
    wait_for_state(tab.page, "live")
    yield played
    tab.troubles = [t for t in tab.troubles if not any(part in t for part in UNHEARD)]
