"""The protocol client: one session that survives lost connections and restarted servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidURI,
)
from websockets.typing import Subprotocol

from sgaps.errors import ErrorCode, ProtocolError, SgapsError
from sgaps.protocol import json_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import (
    Error,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    SessionStartAck,
)
from sgaps_client import incoming, outgoing
from sgaps_client.address import is_loopback, is_proxy_readable, shown, told_loss, unusable_proxy
from sgaps_client.complaints import Complaints
from sgaps_client.state import ClientState, SessionConfig

log = logging.getLogger(__name__)

HEARTBEAT_SECS = 1.0
"""Often enough to find out within two seconds and a round trip that the network is slower than the
game."""
START_TIMEOUT_SECS = 10.0
"""For the handshake, and again for the first answer."""
LEAST_ATTEMPT_SECS = 2.0
"""Where no longer is to be waited than for one attempt, a server has so long to answer."""
TURNS_TO_READ = 3
"""Of the event loop: one finds that bytes wait, one reads them, one takes the messages in them."""
SILENCE_TIMEOUT_SECS = 10.0
"""Each heartbeat is answered, so a connection without a word for so long is dead."""
LAST_LOOK_SECS = 0.5
"""After it, for what came while the game held up the event loop: it waits to be read."""
CLOSE_TIMEOUT_SECS = 1.0
FIRST_BACKOFF_SECS = 0.2
MAX_BACKOFF_SECS = 5.0
STEADY_SECS = 5.0
"""A session that lasted so long is no start that fails; after it the pauses begin small again."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

# Codes after which the same client may come back; any other fatal one is its own fault.
WORTH_RETRYING = frozenset(
    {
        ErrorCode.INTERNAL,
        ErrorCode.OVERLOADED,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.START_TIMEOUT,
        ErrorCode.TOO_MANY_SESSIONS,
    }
)
_CONNECTION_LOST = (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidURI,  # where a redirect leads
    OSError,
    TimeoutError,
)


class NoSession(SgapsError):
    """No session could be started in the time given for it; the message says why not at last."""


@dataclass(frozen=True, kw_only=True)
class SentFrame:
    """A frame on its way."""

    frame_id: int
    sent_at_secs: float
    """Monotonic time just before it was written to the socket."""


class SgapsClient:
    """`async with SgapsClient(config) as client: await client.send_frame(image, state)`.

    Sending never waits for answers: a frame is sampled at the newest coordinates known. What the
    server says is heard while the game awaits something, `send_frame` at least. Raises
    ProtocolError where the server refuses for good, at the end of the `async with` where no frame
    has told of it; NoSession where none was started within `wait_secs` (an attempt is given
    LEAST_ATTEMPT_SECS all the same); SettingsError where the first server that answers has no such
    socket, or leads to a page, and where the environment names a proxy that cannot be used.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        on_answer: Callable[[CoordinateSet], None] = lambda _: None,
        wait_secs: float = math.inf,
    ) -> None:
        self.config = config
        self._wait_secs = wait_secs
        self.state = ClientState()
        self._on_answer = on_answer
        self._connection: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._has_told_end = False
        self._give_up_at_secs = math.inf
        self._complaints = Complaints()
        self._resume_session_id: str | None = None
        self._backoff_secs = FIRST_BACKOFF_SECS

    async def __aenter__(self) -> Self:
        self._has_told_end = False
        self._running = asyncio.create_task(self._run())
        try:
            await self._until_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._has_told_end:
                await self._see_what_ended()
        finally:
            await self._end()

    async def _see_what_ended(self) -> None:
        """Raises what ended the client; where it was refused a moment ago, once it has closed."""
        running = self._unended()
        if self._connection is None:
            await asyncio.wait({running}, timeout=CLOSE_TIMEOUT_SECS)
            self._unended()

    async def send_frame(
        self,
        image: NDArray[np.uint8],
        state: NDArray[np.float32],
        *,
        keyframe_png: bytes | None = None,
    ) -> SentFrame | None:
        """Sample a frame (H, W) and send it, after its keyframe; None where it is dropped.

        Waits while there is no connection, and as long as the server asked to. A frame that would
        wait behind others, on a network slower than the game, is dropped. Raises ProtocolError,
        WrongPicture, and RuntimeError where the client is not open.
        """
        outgoing.check_picture(image, self.config)
        await self._read_what_waits()
        connection = await self._until_ready()
        pause_secs = self.state.paused_until_secs - time.monotonic()
        if pause_secs > 0:
            await asyncio.sleep(pause_secs)
            connection = await self._until_ready()
        if self.state.account.is_backlogged(now_secs=time.monotonic()):
            self._drop()
            return None
        frame = outgoing.sampled_frame(
            image, state, frame_id=self.state.account.next_frame_id, client_state=self.state
        )
        messages = outgoing.written(frame, keyframe_png, subprotocol=connection.subprotocol)
        self.state.account.book_sent()
        sent = SentFrame(frame_id=frame.frame_id, sent_at_secs=time.monotonic())
        for raw in messages:
            await self._send(connection, raw)
        return sent

    async def _read_what_waits(self) -> None:
        """A game that awaits nothing else would hear no answer, and take it for a slow network."""
        for _ in range(TURNS_TO_READ):
            await asyncio.sleep(0)

    def _drop(self) -> None:
        self.state.frames_dropped += 1
        self._warn(
            "dropped",
            "a frame is dropped, for a heartbeat waits longer than usual for its answer: the "
            "network is slower than the game, or the game holds up the event loop",
        )

    def _warn(self, kind: str, told: str) -> None:
        self._complaints.warn(kind, told, now_secs=time.monotonic())

    def wants_keyframe(self) -> bool:
        """Whether the next frame is one the server wants whole."""
        interval = self.state.keyframe_interval
        return interval > 0 and self.state.account.next_frame_id % interval == 0

    async def _until_ready(self) -> ClientConnection:
        """The connection of a started session, waited for; raises what ended the client."""
        while self._connection is None:
            running = self._unended()
            waiting = asyncio.create_task(self._ready.wait())
            try:
                await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        return self._connection

    def _unended(self) -> asyncio.Task[None]:
        """What keeps the session; raises what ended it."""
        running = self._running
        if running is None:
            raise RuntimeError("use the client in `async with`")
        if running.cancelled():
            raise RuntimeError("the client was closed: its `async with` has ended")
        if running.done():
            self._has_told_end = True
            running.result()
        return running

    async def _send(self, connection: ClientConnection, raw: str | bytes) -> None:
        """A message that meets a lost connection is lost: the game does not wait."""
        with contextlib.suppress(ConnectionClosed):
            await connection.send(raw)
            self.state.bytes_up += len(raw)

    async def _end(self) -> None:
        """Close the connection; a server that does not even read is not waited for."""
        running = self._running
        if running is not None:
            running.cancel()
            if running in (await asyncio.wait({running}, timeout=CLOSE_TIMEOUT_SECS))[1]:
                running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self) -> None:
        """Connect, play, and come back with growing pauses when the connection is lost.

        Raises ProtocolError, NoSession, SettingsError.
        """
        self._give_up_at_secs = time.monotonic() + self._wait_secs
        while True:
            trouble, asked_pause_secs = "the server closed the connection", 0.0
            try:
                await self._connect_and_play()
            except _CONNECTION_LOST as error:
                had_session = bool(self.state.accounts)
                trouble = told_loss(error, self.config.url, had_session=had_session)
            except ProtocolError as error:
                if error.code not in WORTH_RETRYING:
                    raise
                trouble = f"the server is not ready ({error})"
                asked_pause_secs = error.retry_after_secs or 0.0
            # Not the longer of both: who was told the same pause must not come back as one.
            pause_secs = asked_pause_secs + self._next_backoff_secs()
            if not self.state.accounts and time.monotonic() + pause_secs > self._give_up_at_secs:
                raise NoSession(f"no session within {self._wait_secs:g} s: {trouble}")
            log.warning("%s, trying again", trouble)
            await asyncio.sleep(pause_secs)

    async def _connect_and_play(self) -> None:
        async with await self._connected() as connection:
            await self._play(connection)

    async def _connected(self) -> ClientConnection:
        """Raises SettingsError where the proxy cannot be used, else what _run comes back after."""
        uses_proxy = not is_loopback(self.config.url)
        connecting = connect(
            self.config.url,
            subprotocols=[Subprotocol(name) for name in self.config.subprotocols],
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=self._attempt_secs(),
            close_timeout=CLOSE_TIMEOUT_SECS,  # a dead peer does not answer to that either
            proxy=True if uses_proxy else None,
        )
        try:
            return await connecting
        except (InvalidProxy, ImportError) as error:  # for SOCKS
            raise unusable_proxy(error) from error
        except ValueError as error:  # of a port above 65535
            if uses_proxy and not is_proxy_readable(connecting.uri):
                raise unusable_proxy(error) from error
            # The config's own address was checked: a redirect leads to one that is none.
            raise InvalidHandshake(f"redirected to no address: {shown(str(error))}") from error

    def _attempt_secs(self) -> float:
        """How long the server may take to answer; for the first session `wait_secs` ends it too."""
        if self.state.accounts:
            return START_TIMEOUT_SECS
        left_secs = self._give_up_at_secs - time.monotonic()
        return min(START_TIMEOUT_SECS, max(LEAST_ATTEMPT_SECS, left_secs))

    def _next_backoff_secs(self) -> float:
        """Twice as long each time, and at random, so that many clients do not return as one."""
        backoff_secs = self._backoff_secs * random.uniform(0.5, 1.0)
        self._backoff_secs = min(2 * self._backoff_secs, MAX_BACKOFF_SECS)
        return backoff_secs

    async def _play(self, connection: ClientConnection) -> None:
        async with asyncio.timeout(self._attempt_secs()):
            await self._start(connection)
            await self._send_heartbeat(connection)  # before any frame, for what it tells
        self._connection = connection
        self._ready.set()
        steady_at_secs = time.monotonic() + STEADY_SECS
        beating = asyncio.create_task(self._beat(connection))
        try:
            await self._listen(connection)
        finally:
            self._connection = None
            self._ready.clear()
            beating.cancel()
            if time.monotonic() >= steady_at_secs:
                self._backoff_secs = FIRST_BACKOFF_SECS

    async def _listen(self, connection: ClientConnection) -> None:
        """Take what comes until the connection is closed. Raises TimeoutError where it is dead."""
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                self._receive(await self._heard(connection))

    async def _heard(self, connection: ClientConnection) -> str | bytes:
        """The next message. Raises TimeoutError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_TIMEOUT_SECS):
                return await connection.recv()
        try:
            async with asyncio.timeout(LAST_LOOK_SECS):
                return await connection.recv()
        except TimeoutError as error:
            raise TimeoutError(f"not a word for {SILENCE_TIMEOUT_SECS:g} s") from error

    async def _start(self, connection: ClientConnection) -> None:
        """Start or resume, and wait for the first coordinates."""
        start = outgoing.session_start(self.config, resume_session_id=self._resume_session_id)
        await self._send(connection, json_codec.encode(start))
        ack = self._taken_ack(await connection.recv())
        self.state.take_ack(ack)
        self._resume_session_id = ack.session_id
        while not isinstance(self._receive(await connection.recv()), CoordinateSet):
            pass

    def _taken_ack(self, raw: str | bytes) -> SessionStartAck:
        """The answer to session_start. Raises ProtocolError where it is a refusal."""
        self.state.bytes_down += len(raw)
        reply = json_codec.decode_server_message(raw)
        if isinstance(reply, SessionStartAck):
            return reply
        if self._resume_session_id is not None and incoming.is_gone(reply):
            # The refusal of a first message ends its connection: come back without the old id.
            self._resume_session_id = None
            self.state.account.book_gone()
            raise ConnectionAbortedError("the session is gone, starting a new one")
        raise incoming.refusal(reply)

    def _receive(self, raw: str | bytes) -> FromServer | CoordinateSet:
        self.state.bytes_down += len(raw)
        message = incoming.decoded(raw)
        match message:
            case CoordinateSet():
                self.state.take_coordinates(message)
                if message.frame_id >= 0:
                    self._on_answer(message)
            case HeartbeatAck():
                self.state.take_heartbeat(message, now_secs=time.monotonic())
            case Error():
                self._take_error(message)
            case SessionStartAck():
                log.warning("a second session_start_ack is ignored")
        return message

    def _take_error(self, error: Error) -> None:
        self.state.take_error(error, now_secs=time.monotonic())
        if error.fatal:
            raise incoming.refusal(error)
        told = f"the server refused a message: {error.code}: {error.message}"
        self._warn(incoming.known_code(error), told)

    async def _beat(self, connection: ClientConnection) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECS)
            await self._send_heartbeat(connection)

    async def _send_heartbeat(self, connection: ClientConnection) -> None:
        heartbeat = Heartbeat(timestamp=time.time())
        self.state.account.book_heartbeat_sent(heartbeat.timestamp, now_secs=time.monotonic())
        await self._send(connection, json_codec.encode(heartbeat))
