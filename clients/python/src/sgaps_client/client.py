"""The protocol client: one session that survives lost connections and restarted servers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol import json_codec
from sgaps.protocol.messages import (
    ClientInfo,
    Error,
    FrameData,
    FromClient,
    Heartbeat,
    HeartbeatAck,
    Keyframe,
    Resolution,
    SessionStart,
    SessionStartAck,
    UvCoordinates,
)
from sgaps_client.sampling import sample_image

log = logging.getLogger(__name__)

CLIENT_VERSION = "0.1.0"
HEARTBEAT_SECS = 1.0
START_TIMEOUT_SECS = 10.0
FIRST_BACKOFF_SECS = 0.2
MAX_BACKOFF_SECS = 5.0
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

# Codes after which the same client may come back; any other fatal one is its own fault.
WORTH_RETRYING = frozenset(
    {ErrorCode.OVERLOADED, ErrorCode.SHUTTING_DOWN, ErrorCode.INTERNAL, ErrorCode.TOO_MANY_SESSIONS}
)
_CONNECTION_LOST = (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, TimeoutError)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """What a session is about."""

    url: str
    checkpoint_key: str
    width: int
    height: int
    auth_token: str | None = None
    wants_importance: bool = False


@dataclass(kw_only=True)
class ClientState:
    """What the server told last, and what went over the wire."""

    session_id: str | None = None
    coords: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))
    """(N, 2), the newest set."""
    coordinate_set_id: int = 0
    model_version: str = "none"
    predicted_psnr_db: float | None = None
    max_state_dim: int = 0
    target_fps: float = 10.0
    keyframe_interval: int = 0
    last_recorded_frame_id: int = -1
    paused_until_secs: float = 0.0
    """Monotonic time before which the server wants no frames."""
    next_frame_id: int = 0
    resumed_count: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    refusals: list[ErrorCode | str] = field(default_factory=list)


class SgapsClient:
    """`async with SgapsClient(config) as client: await client.send_frame(image, state)`.

    Sending never waits for answers: a frame is sampled at the newest coordinates known.
    Raises ProtocolError where the server refuses for good.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        on_answer: Callable[[UvCoordinates], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.state = ClientState()
        self._on_answer = on_answer
        self._connection: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        await self._until_ready()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError, ProtocolError):
                await self._running

    @property
    def is_connected(self) -> bool:
        return self._ready.is_set()

    async def send_frame(
        self, image: NDArray[np.uint8], state: NDArray[np.float32], *, keyframe_png: bytes | None
    ) -> int:
        """Sample a frame and send it, after its keyframe; the frame's id.

        Waits while there is no connection, and as long as the server asked to. Raises
        ProtocolError.
        """
        await self._until_ready()
        pause_secs = self.state.paused_until_secs - time.monotonic()
        if pause_secs > 0:
            await asyncio.sleep(pause_secs)
            await self._until_ready()
        frame_id = self.state.next_frame_id
        self.state.next_frame_id += 1
        if keyframe_png is not None:
            await self._send(
                Keyframe(
                    frame_id=frame_id,
                    encoding="png",
                    data=base64.b64encode(keyframe_png).decode(),
                )
            )
        await self._send(self._frame_data(frame_id, image, state))
        return frame_id

    def wants_keyframe(self) -> bool:
        """Whether the next frame is one the server wants whole."""
        interval = self.state.keyframe_interval
        return interval > 0 and self.state.next_frame_id % interval == 0

    def _frame_data(
        self, frame_id: int, image: NDArray[np.uint8], state: NDArray[np.float32]
    ) -> FrameData:
        coords = (
            self.state.coords if self.state.coords is not None else np.empty((0, 2), np.float32)
        )
        samples = np.round(sample_image(image, coords).astype(np.float64), 6)
        return FrameData(
            frame_id=frame_id,
            pixels=[(u, v, value) for u, v, value in samples.tolist()],
            state_vector=state[: self.state.max_state_dim].tolist(),
            resolution=self._resolution(),
            timestamp=time.time(),
            coordinate_set_id=self.state.coordinate_set_id,
        )

    def _resolution(self) -> Resolution:
        return Resolution(width=self.config.width, height=self.config.height)

    async def _until_ready(self) -> None:
        """Wait for a started session, or raise what ended the client."""
        waiting = asyncio.create_task(self._ready.wait())
        running = self._running
        if running is None:
            raise RuntimeError("use the client in `async with`")
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()

    async def _send(self, message: FromClient) -> None:
        """A message that meets a lost connection is lost: the game does not wait."""
        text = json_codec.encode(message)
        if self._connection is None:
            return
        try:
            await self._connection.send(text)
        except ConnectionClosed:
            return
        self.state.bytes_up += len(text)

    async def _run(self) -> None:
        """Connect, play, and come back with growing pauses when the connection is lost."""
        backoff_secs = FIRST_BACKOFF_SECS
        while True:
            try:
                async with connect(
                    self.config.url,
                    subprotocols=[Subprotocol(json_codec.SUBPROTOCOL)],
                    compression=None,
                    max_size=MAX_MESSAGE_BYTES,
                ) as connection:
                    await self._play(connection)
            except _CONNECTION_LOST as error:
                log.warning("connection lost (%s), trying again", error or type(error).__name__)
            except ProtocolError as error:
                if error.code not in WORTH_RETRYING:
                    raise
                backoff_secs = max(backoff_secs, error.retry_after_secs or 0)
            finally:
                self._connection = None
            if self._ready.is_set():
                backoff_secs = FIRST_BACKOFF_SECS
                self._ready.clear()
            await asyncio.sleep(backoff_secs * random.uniform(0.5, 1.0))
            backoff_secs = min(2 * backoff_secs, MAX_BACKOFF_SECS)

    async def _play(self, connection: ClientConnection) -> None:
        async with asyncio.timeout(START_TIMEOUT_SECS):
            await self._start(connection)
        beating = asyncio.create_task(self._beat())
        try:
            async for raw in connection:
                self._receive(raw)
        finally:
            beating.cancel()

    async def _start(self, connection: ClientConnection) -> None:
        """Start or resume, and wait for the first coordinates."""
        self._connection = connection
        self._take_ack(await self._ask_to_start(connection, self.state.session_id))
        while not self._ready.is_set():
            self._receive(await connection.recv())

    async def _ask_to_start(
        self, connection: ClientConnection, session_id: str | None
    ) -> SessionStartAck:
        await self._send(
            SessionStart(
                checkpoint_key=self.config.checkpoint_key,
                resolution=self._resolution(),
                max_state_dim=self.state.max_state_dim,
                auth_token=self.config.auth_token,
                client=ClientInfo(
                    name="sgaps_client",
                    version=CLIENT_VERSION,
                    features=["importance_map"] if self.config.wants_importance else [],
                ),
                resume_session_id=session_id,
            )
        )
        reply = json_codec.decode_server_message(await connection.recv())
        if isinstance(reply, SessionStartAck):
            return reply
        if isinstance(reply, Error) and reply.code == ErrorCode.SESSION_NOT_FOUND:
            # The refusal of a first message ends its connection: come back without the old id.
            self.state.session_id, self.state.next_frame_id = None, 0
            raise ConnectionAbortedError("the session is gone, starting a new one")
        raise _refusal(reply)

    def _take_ack(self, ack: SessionStartAck) -> None:
        state = self.state
        state.session_id = ack.session_id
        state.max_state_dim = ack.max_state_dim
        state.target_fps = ack.target_fps
        state.keyframe_interval = ack.keyframe_interval
        state.model_version = ack.model_version
        state.next_frame_id = max(state.next_frame_id, ack.last_frame_id + 1)
        state.resumed_count += ack.resumed

    def _receive(self, raw: str | bytes) -> None:
        self.state.bytes_down += len(raw)
        match json_codec.decode_server_message(raw):
            case UvCoordinates() as answer:
                self._take_coordinates(answer)
            case HeartbeatAck() as ack:
                self.state.last_recorded_frame_id = ack.last_recorded_frame_id
                self.state.target_fps = ack.target_fps
            case Error() as error:
                self._take_error(error)
            case SessionStartAck():
                log.warning("a second session_start_ack is ignored")

    def _take_coordinates(self, answer: UvCoordinates) -> None:
        self.state.coords = np.array(answer.coords, np.float32).reshape(-1, 2)
        self.state.coordinate_set_id = answer.coordinate_set_id
        self.state.model_version = answer.model_version
        self.state.predicted_psnr_db = answer.predicted_psnr
        self._ready.set()
        if answer.frame_id >= 0:
            self._on_answer(answer)

    def _take_error(self, error: Error) -> None:
        self.state.refusals.append(error.code)
        if error.retry_after_secs is not None:
            self.state.paused_until_secs = time.monotonic() + error.retry_after_secs
        if error.fatal:
            raise _refusal(error)
        log.warning("the server refused a message: %s: %s", error.code, error.message)

    async def _beat(self) -> None:
        while True:
            await self._send(Heartbeat(timestamp=time.time()))
            await asyncio.sleep(HEARTBEAT_SECS)


def _refusal(reply: object) -> ProtocolError:
    if not isinstance(reply, Error):
        return ProtocolError(ErrorCode.BAD_MESSAGE, f"unexpected {type(reply).__name__}")
    known = reply.code in set(ErrorCode)
    return ProtocolError(
        ErrorCode(reply.code) if known else ErrorCode.INTERNAL,
        reply.message,
        fatal=True,
        retry_after_secs=reply.retry_after_secs,
    )
