"""One client's socket, `/ws/stream`: receives, answers, refuses. The checks are in `intake`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from gateway import intake, opening
from gateway.access import check_token, client_address
from gateway.limits import sent_bytes
from gateway.outlook import NOT_KNOWN
from gateway.session import OUTBOX_SIZE, Session
from gateway.shared import Gateway
from gateway.sockets import close, first_message, receive, told
from gateway.transport import admit
from sgaps import tracing
from sgaps.errors import BusError, BusFull, ErrorCode, ProtocolError
from sgaps.keys import session_key
from sgaps.metrics import gateway as metrics
from sgaps.metrics import stage
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, WholeFrame
from sgaps.protocol.messages import (
    ClientMessage,
    FrameData,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Keyframe,
    SessionStart,
)

log = logging.getLogger(__name__)

SUBPROTOCOLS = (binary_codec.SUBPROTOCOL, json_codec.SUBPROTOCOL)
"""The first one that a client offers too is spoken; without any it is JSON."""
REMEMBER_SECS = 300.0
"""How often at most a heartbeat renews what the broker knows of a session; frames do it as well."""


class Connection:
    """One socket and the session it plays."""

    def __init__(self, socket: WebSocket, gateway: Gateway) -> None:
        self._socket = socket
        self._gateway = gateway
        self._server = gateway.settings.server
        self._address = client_address(socket)
        self._session: Session | None = None
        self._is_held = False
        """Whether the broker was told that the session is at this gateway."""
        self._is_binary = False
        self._outbox: asyncio.Queue[CoordinateSet | FromServer] = asyncio.Queue(OUTBOX_SIZE)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve the socket until either side closes it."""
        offered: Sequence[str] = self._socket.scope.get("subprotocols", [])
        chosen = next((name for name in SUBPROTOCOLS if name in offered), None)
        self._is_binary = chosen == binary_codec.SUBPROTOCOL
        await self._socket.accept(subprotocol=chosen)
        try:
            await self._serve()
        except WebSocketDisconnect:
            pass
        except ProtocolError as error:
            await self._farewell(error)
        except Exception:  # whatever is wrong with one connection must cost no other
            whose = {"session_id": self._session.session_id} if self._session else {}
            log.exception("a connection from %s failed", self._address, extra=whose)
            await self._farewell(ProtocolError(ErrorCode.INTERNAL, "the gateway made a mistake"))
        finally:
            if self._session is not None:
                self._gateway.sessions.disconnect(self._session, self._offer)

    async def _serve(self) -> None:
        """Read and write; what ends either ends both. Raises what ended them."""
        with self._gateway.waiting.place(self._address), metrics.WAITING.track_inprogress():
            session = await self._open()
        with metrics.PLAYING.track_inprogress():
            await self._play(session)

    async def _play(self, session: Session) -> None:
        tasks = {
            asyncio.create_task(self._read(session)),
            asyncio.create_task(self._write_outbox(session)),
        }
        try:
            await asyncio.wait({*tasks, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        if self._ended.done():
            self._ended.result()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _open(self) -> Session:
        """Wait for the first message and begin its session. All errors here are fatal."""
        raw = await first_message(self._socket, self._gateway, wanted="session_start")
        metrics.BYTES_UP.inc(sent_bytes(raw))
        message = self._decoded(raw)
        if not isinstance(message, SessionStart):
            raise ProtocolError(ErrorCode.NO_SESSION, "send session_start first")
        check_token(self._socket, self._gateway, message.auth_token)
        return await self._start(message)

    async def _start(self, start: SessionStart) -> Session:
        try:
            session = await opening.find_or_create(start, self._gateway, address=self._address)
        except BusError as error:
            raise self._gateway.outlook.overloaded(error) from error
        self._session = session
        self._gateway.sessions.connect(session, self._offer, self._end)
        admit(self._socket.scope)
        resumed = start.resume_session_id is not None
        ack = opening.acknowledgement(session, self._gateway, resumed=resumed)
        await self._send(ack)
        await self._send_coordinates(
            opening.first_coordinates(session, self._gateway, version=ack.model_version), session
        )
        return session

    async def _read(self, session: Session) -> None:
        """Handle what comes in the session; a mistake costs its message alone."""
        while True:
            raw = await receive(self._socket)
            size_bytes = sent_bytes(raw)
            metrics.BYTES_UP.inc(size_bytes)
            session.bytes_up += size_bytes
            try:
                session.limits.take_message(raw, size_bytes)
                await self._handle(self._decoded(raw), session)
            except ProtocolError as error:
                session.messages_refused += 1
                metrics.MESSAGES_REFUSED.labels(error.code.value).inc()
                session.limits.take_refusal(error)
                await self._outbox.put(told(error, fatal=False))

    def _decoded(self, raw: str | bytes) -> ClientMessage | binary_codec.FromClient:
        if isinstance(raw, str):
            return json_codec.decode_client_message(raw)
        if not self._is_binary:
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"binary messages need the subprotocol {binary_codec.SUBPROTOCOL}",
            )
        return binary_codec.decode_client_message(raw)

    async def _handle(
        self, message: ClientMessage | binary_codec.FromClient, session: Session
    ) -> None:
        match message:
            case binary_codec.ValuesOfFrame():
                await self._frame(intake.at_its_coordinates(message, session), session)
            case FrameData():
                await self._frame(intake.packed(json_codec.sampled_frame(message)), session)
            case WholeFrame():
                await self._keyframe(message, session)
            case Keyframe():
                await self._keyframe(json_codec.whole_frame(message), session)
            case Heartbeat():
                await self._heartbeat(message, session)
            case SessionStart():
                raise ProtocolError(ErrorCode.SESSION_EXISTS, "this connection has a session")

    async def _frame(self, sent: intake.PackedFrame, session: Session) -> None:
        session.limits.take_frame()
        with stage("accept"):
            await self._accept(sent, session)

    async def _accept(self, sent: intake.PackedFrame, session: Session) -> None:
        started_at_secs = time.time()
        frame = intake.accept_frame(
            sent,
            session,
            gateway_id=self._server.gateway_id,
            traceparent=tracing.new_traceparent(),
        )
        self._gateway.outlook.check_room()
        # Before the write, for one that is given up, or cancelled with its socket, may yet be done.
        used_before, session.used_frame_id = session.used_frame_id, frame.frame_id
        try:
            await self._gateway.bus.write(
                *intake.storing(frame, session, history_frames=self._server.history_frames)
            )
        except BusFull as error:  # it refuses a write whole
            session.used_frame_id = used_before
            raise self._gateway.outlook.overloaded(error) from error
        except BusError as error:
            session.release_keyframe(frame.frame_id)
            raise self._gateway.outlook.overloaded(error, outcome=NOT_KNOWN) from error
        session.release_keyframe(frame.frame_id)
        session.last_frame_id = frame.frame_id
        session.remembered_at_secs = time.monotonic()
        session.frames_received += 1
        metrics.FRAMES_RECEIVED.inc()
        tracing.passed("accept", frame, started_at_secs=started_at_secs)

    async def _keyframe(self, keyframe: WholeFrame, session: Session) -> None:
        session.limits.take_keyframe()
        await intake.accept_keyframe(keyframe, session, self._server)

    async def _hold(self, session: Session) -> None:
        """Not before the first heartbeat: a client that gave up waiting for its session, and went
        back to another gateway, sends none. Where the broker is full, with the next one."""
        with suppress(BusFull):
            await self._gateway.bus.write(intake.holding(session, self._server.gateway_id))
            self._is_held = True

    async def _heartbeat(self, message: Heartbeat, session: Session) -> None:
        try:
            if not self._is_held:
                await self._hold(session)
            (fields,) = await self._gateway.bus.hashes([session_key(session.session_id)])
        except BusError as error:
            raise self._gateway.outlook.overloaded(error) from error
        if self._is_held and intake.is_held_elsewhere(fields, self._server.gateway_id):
            why = "the session was resumed on another gateway"
            self._end(ProtocolError(ErrorCode.SESSION_TAKEN_OVER, why))
            return
        await self._outbox.put(
            HeartbeatAck(
                timestamp=message.timestamp,
                server_time=time.time(),
                last_recorded_frame_id=int(fields.get("last_recorded_frame_id", -1)),
                target_fps=self._gateway.outlook.target_fps(self._gateway.settings.asked_fps),
            )
        )
        await self._remember(session, int(fields.get("last_frame_id", -1)))

    async def _remember(self, session: Session, stored_frame_id: int) -> None:
        """Let the broker not forget a session that sends no frames, as in a game's menu."""
        now_secs = time.monotonic()
        if now_secs - session.remembered_at_secs < REMEMBER_SECS:
            return
        session.remembered_at_secs = now_secs
        # Another gateway may have the session by now, and be further.
        last_frame_id = max(session.last_frame_id, stored_frame_id)
        with suppress(BusError):  # where it is full or gone, the next time is early enough
            await self._gateway.bus.write(intake.remembering(session, last_frame_id))

    def _offer(self, answer: CoordinateSet) -> bool:
        try:
            self._outbox.put_nowait(answer)
        except asyncio.QueueFull:
            return False
        return True

    def _end(self, error: ProtocolError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    async def _write_outbox(self, session: Session) -> None:
        """The only writer while a session plays, so no two messages meet on the socket."""
        while True:
            message = await self._outbox.get()
            if isinstance(message, CoordinateSet):
                await self._send_coordinates(message, session)
            else:
                await self._send(message)

    async def _farewell(self, error: ProtocolError) -> None:
        """Say why, and close."""
        metrics.MESSAGES_REFUSED.labels(error.code.value).inc()
        try:
            await self._send(told(error, fatal=True))
            await close(self._socket, error)
        except WebSocketDisconnect:
            log.debug("a client did not wait for %s", error)

    async def _send_coordinates(self, chosen: CoordinateSet, session: Session) -> None:
        if not self._is_binary:
            await self._write(json_codec.encode_coordinates(chosen))
            return
        session.remember(chosen.coordinate_set_id, chosen.coords)
        await self._write(binary_codec.encode_coordinates(chosen))

    async def _send(self, message: FromServer) -> None:
        await self._write(json_codec.encode(message))

    async def _write(self, raw: str | bytes) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect  # the client was found to be gone while something else ended
        if isinstance(raw, bytes):
            await self._socket.send_bytes(raw)
        else:
            await self._socket.send_text(raw)
        metrics.BYTES_DOWN.inc(len(raw))
        if self._session is not None:
            self._session.bytes_down += len(raw)
