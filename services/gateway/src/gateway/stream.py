"""One client's socket, `/ws/stream`: receives, answers, refuses. The checks are in `intake`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from gateway import intake
from gateway.serving import serving_version
from gateway.session import OUTBOX_SIZE, Session, SessionManager, new_session_id
from sgaps import metrics
from sgaps.bus import Bus, Put
from sgaps.errors import BusError, BusFull, ErrorCode, ProtocolError
from sgaps.keys import SESSION_TTL_SECS, session_key
from sgaps.messages import first_set_id
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, SampledFrame, WholeFrame
from sgaps.protocol.messages import (
    FOOTPRINT,
    IMPORTANCE_MAP,
    ClientMessage,
    Error,
    FrameData,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Keyframe,
    SessionStart,
    SessionStartAck,
)
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import Settings

log = logging.getLogger(__name__)

OVERLOADED_RETRY_SECS = 1.0
OVERLOADED_MEMORY_SECS = 10.0
CLOSE_POLICY_VIOLATION = 1008
CLOSE_SERVICE_RESTART = 1012
SUBPROTOCOLS = (binary_codec.SUBPROTOCOL, json_codec.SUBPROTOCOL)
"""The first one that a client offers too is spoken; without any it is JSON."""


@dataclass
class Load:
    """Whether storing frames failed lately: then clients are asked for fewer."""

    refused_at_secs: float = float("-inf")

    def target_fps(self, target_fps: float) -> float:
        lately = time.monotonic() - self.refused_at_secs < OVERLOADED_MEMORY_SECS
        return target_fps / 2 if lately else target_fps


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What all connections of a gateway share."""

    settings: Settings
    bus: Bus
    sessions: SessionManager
    load: Load
    started_at_secs: float


class Connection:
    """One socket and the session it plays."""

    def __init__(self, socket: WebSocket, gateway: Gateway) -> None:
        self._socket = socket
        self._gateway = gateway
        self._server = gateway.settings.server
        self._session: Session | None = None
        self._rate = intake.RateLimit(self._server.max_frame_rate)
        self._limits = intake.Limits(
            max_samples=min(
                self._server.max_samples, gateway.settings.sampling.default_sample_count
            ),
            max_state_dim=gateway.settings.max_state_dim,
        )
        self._is_binary = False
        self._outbox: asyncio.Queue[CoordinateSet | Error] = asyncio.Queue(OUTBOX_SIZE)

    async def run(self) -> None:
        """Serve the socket until either side closes it."""
        offered: Sequence[str] = self._socket.scope.get("subprotocols", [])
        chosen = next((name for name in SUBPROTOCOLS if name in offered), None)
        self._is_binary = chosen == binary_codec.SUBPROTOCOL
        await self._socket.accept(subprotocol=chosen)
        writer = asyncio.create_task(self._write_outbox())
        try:
            await self._read()
        except WebSocketDisconnect:
            pass
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await writer
            if self._session is not None:
                self._gateway.sessions.disconnect(self._session, self._offer)
            metrics.SESSIONS.set(self._gateway.sessions.connected_count)

    async def _read(self) -> None:
        while self._socket.client_state is WebSocketState.CONNECTED:
            try:
                raw = await self._receive()
                await self._dispatch(raw)
            except ProtocolError as error:
                metrics.FRAMES_REFUSED.labels(error.code.value).inc()
                if await self._refuse(error):
                    return

    async def _receive(self) -> str | bytes:
        started = self._session is not None
        timeout_secs = None if started else self._server.session_start_timeout_secs
        try:
            async with asyncio.timeout(timeout_secs):
                event = await self._socket.receive()
        except TimeoutError as error:
            raise ProtocolError(
                ErrorCode.START_TIMEOUT, f"no session_start in {timeout_secs:g} s", fatal=True
            ) from error
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1000))
        return self._sized(event.get("text"), event.get("bytes"))

    def _sized(self, text: str | None, data: bytes | None) -> str | bytes:
        raw = text if text is not None else data or b""
        if len(raw) > self._server.max_message_bytes:
            raise ProtocolError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"{len(raw)} bytes; at most {self._server.max_message_bytes}",
                fatal=True,
            )
        if isinstance(raw, bytes) and not self._is_binary:
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"binary messages need the subprotocol {binary_codec.SUBPROTOCOL}",
            )
        if self._session is not None:
            self._session.bytes_up += len(raw)
        return raw

    async def _dispatch(self, raw: str | bytes) -> None:
        if isinstance(raw, bytes):
            await self._dispatch_binary(binary_codec.decode_client_message(raw))
            return
        message: ClientMessage = json_codec.decode_client_message(raw)
        match message:
            case SessionStart():
                await self._start(message)
            case FrameData():
                await self._frame(json_codec.sampled_frame(message), self._playing())
            case Keyframe():
                intake.accept_keyframe(json_codec.whole_frame(message), self._playing())
            case Heartbeat():
                await self._heartbeat(message)

    async def _dispatch_binary(self, message: binary_codec.FromClient) -> None:
        session = self._playing()
        match message:
            case binary_codec.ValuesOfFrame():
                await self._frame(intake.at_its_coordinates(message, session), session)
            case WholeFrame():
                intake.accept_keyframe(message, session)

    def _playing(self) -> Session:
        if self._session is None:
            raise ProtocolError(ErrorCode.NO_SESSION, "send session_start first", fatal=True)
        return self._session

    async def _start(self, start: SessionStart) -> None:
        if self._session is not None:
            raise ProtocolError(ErrorCode.SESSION_EXISTS, "this connection has a session")
        token = self._server.auth_token
        if token and not hmac.compare_digest(
            (start.auth_token or "").encode("utf-8", "surrogatepass"), token.encode()
        ):
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "auth_token is wrong", fatal=True)
        try:
            session, resumed = await self._find_or_create(start)
            loaded, version = await serving_version(self._gateway.bus, start.checkpoint_key)
        except BusError as error:
            raise self._overloaded(error) from error
        self._session = session
        self._gateway.sessions.connect(session, self._offer)
        metrics.SESSIONS.set(self._gateway.sessions.connected_count)
        await self._send(self._ack(session, resumed=resumed, loaded=loaded, version=version))
        await self._send_coordinates(self._first_coordinates(session, version))

    async def _find_or_create(self, start: SessionStart) -> tuple[Session, bool]:
        if start.resume_session_id is not None:
            return await self._resume(start, start.resume_session_id), True
        session = _session_of(start, new_session_id())
        await self._gateway.bus.write(
            Put(
                session_key(session.session_id),
                intake.session_fields(session, session.last_frame_id),
                SESSION_TTL_SECS,
            )
        )
        self._gateway.sessions.add(session)
        return session, False

    async def _resume(self, start: SessionStart, session_id: str) -> Session:
        """The session as this gateway knows it, else as the broker remembers it."""
        known = self._gateway.sessions.get(session_id)
        (fields,) = await self._gateway.bus.hashes([session_key(session_id)])
        stored_key = fields.get("checkpoint_key", b"").decode()
        checkpoint_key = known.checkpoint_key if known else stored_key
        if not checkpoint_key:
            raise ProtocolError(
                ErrorCode.SESSION_NOT_FOUND, "no such session to resume; start a new one"
            )
        if checkpoint_key != start.checkpoint_key:
            raise ProtocolError(
                ErrorCode.SESSION_MISMATCH, f"the session plays {checkpoint_key!r}", fatal=True
            )
        session = known or _session_of(start, session_id)
        session.resolution = start.resolution
        session.footprints = _offers(start, FOOTPRINT)
        session.wants_importance = _offers(start, IMPORTANCE_MAP)
        session.last_frame_id = max(session.last_frame_id, int(fields.get("last_frame_id", -1)))
        if known is None:
            session.last_answered_frame_id = session.last_frame_id
            session.started_at_secs = float(fields["started_at_secs"])
            self._gateway.sessions.add(session)
        return session

    def _ack(
        self, session: Session, *, resumed: bool, loaded: bool, version: str
    ) -> SessionStartAck:
        settings = self._gateway.settings
        return SessionStartAck(
            session_id=session.session_id,
            checkpoint_loaded=loaded,
            sample_count=settings.sampling.default_sample_count,
            max_state_dim=settings.max_state_dim,
            target_fps=self._gateway.load.target_fps(settings.target_fps),
            model_version=version,
            coordinate_set_id=first_set_id(session.last_frame_id),
            keyframe_interval=self._server.keyframe_interval,
            resumed=resumed,
            last_frame_id=session.last_frame_id,
            features=_agreed_features(session),
        )

    def _first_coordinates(self, session: Session, version: str) -> CoordinateSet:
        sampling = self._gateway.settings.sampling
        coords = AdaptiveUVSampler(sampling, footprints=session.footprints).sample(
            NOTHING_KNOWN,
            count=min(sampling.default_sample_count, _pixels(session)),
            width=session.resolution.width,
            height=session.resolution.height,
            rng=np.random.default_rng(sampling.seed),
        )
        return CoordinateSet(
            frame_id=-1,
            coordinate_set_id=first_set_id(session.last_frame_id),
            coords=coords,
            footprints=session.footprints,
            importance=None,
            model_version=version,
            predicted_psnr_db=None,
        )

    async def _frame(self, sampled: SampledFrame, session: Session) -> None:
        self._rate.take()
        frame = intake.accept_frame(
            sampled, session, gateway_id=self._server.gateway_id, limits=self._limits
        )
        try:
            await self._gateway.bus.write(
                *intake.storing(frame, session, history_frames=self._server.history_frames)
            )
        except BusError as error:
            raise self._overloaded(error) from error
        session.last_frame_id = frame.frame_id
        session.frames_received += 1
        metrics.FRAMES_RECEIVED.inc()

    def _overloaded(self, error: BusError) -> ProtocolError:
        self._gateway.load.refused_at_secs = time.monotonic()
        why = "storage is full" if isinstance(error, BusFull) else "storage does not answer"
        return ProtocolError(
            ErrorCode.OVERLOADED,
            f"{why}; the message was not stored",
            fatal=self._session is None,
            retry_after_secs=OVERLOADED_RETRY_SECS,
        )

    async def _heartbeat(self, message: Heartbeat) -> None:
        session = self._playing()
        try:
            (fields,) = await self._gateway.bus.hashes([session_key(session.session_id)])
        except BusError as error:
            raise self._overloaded(error) from error
        await self._send(
            HeartbeatAck(
                timestamp=message.timestamp,
                server_time=time.time(),
                last_recorded_frame_id=int(fields.get("last_recorded_frame_id", -1)),
                target_fps=self._gateway.load.target_fps(self._gateway.settings.target_fps),
            )
        )

    def _offer(self, message: CoordinateSet | Error) -> bool:
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    async def _write_outbox(self) -> None:
        while True:
            message = await self._outbox.get()
            if isinstance(message, CoordinateSet):
                await self._send_coordinates(message)
                continue
            await self._send(message)
            if message.fatal:
                going = message.code == ErrorCode.SHUTTING_DOWN
                code = CLOSE_SERVICE_RESTART if going else CLOSE_POLICY_VIOLATION
                await self._socket.close(code, message.code)

    async def _refuse(self, error: ProtocolError) -> bool:
        """Report an error; whether the connection was closed after it."""
        fatal = error.fatal or self._session is None
        if self._session is not None:
            self._session.frames_refused += 1
        await self._send(
            Error(
                code=error.code.value,
                message=error.message,
                fatal=fatal,
                retry_after_secs=error.retry_after_secs,
            )
        )
        if fatal:
            await self._socket.close(CLOSE_POLICY_VIOLATION, error.code.value)
        return fatal

    async def _send_coordinates(self, chosen: CoordinateSet) -> None:
        session = self._playing()
        if not self._is_binary:
            await self._write(json_codec.encode_coordinates(chosen))
            return
        session.remember(chosen.coordinate_set_id, binary_codec.as_sent(chosen.coords))
        await self._write(binary_codec.encode_coordinates(chosen))

    async def _send(self, message: FromServer) -> None:
        await self._write(json_codec.encode(message))

    async def _write(self, raw: str | bytes) -> None:
        if isinstance(raw, bytes):
            await self._socket.send_bytes(raw)
        else:
            await self._socket.send_text(raw)
        if self._session is not None:
            self._session.bytes_down += len(raw)


def _session_of(start: SessionStart, session_id: str) -> Session:
    return Session(
        session_id=session_id,
        checkpoint_key=start.checkpoint_key,
        resolution=start.resolution,
        client_name=start.client.name if start.client else "",
        wants_importance=_offers(start, IMPORTANCE_MAP),
        footprints=_offers(start, FOOTPRINT),
    )


def _offers(start: SessionStart, feature: str) -> bool:
    return start.client is not None and feature in start.client.features


def _agreed_features(session: Session) -> list[str]:
    used = {IMPORTANCE_MAP: session.wants_importance, FOOTPRINT: session.footprints}
    return [name for name, is_used in used.items() if is_used]


def _pixels(session: Session) -> int:
    return session.resolution.width * session.resolution.height
