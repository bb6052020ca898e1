"""Load: clients that play small frames in the binary form and keep books of every one."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from faults.books import Books
from sgaps.errors import ErrorCode
from sgaps.messages import chosen_set_id
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, SampledFrame
from sgaps.protocol.messages import (
    Error,
    Heartbeat,
    HeartbeatAck,
    Resolution,
    SessionStart,
    SessionStartAck,
)

RESOLUTION = Resolution(width=64, height=48)
RECONNECT_SECS = 0.2
ANSWER_TIMEOUT_SECS = 15.0
REST_TIMEOUT_SECS = 30.0
IDS_PER_PLAYER = 10_000_000
"""Players' frame ids do not overlap: an answer that went astray shows."""
NO_STATE = np.zeros(1, np.float32)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast one player plays."""

    frames_per_sec: float
    frames_per_heartbeat: int = 10
    """1 tells of every single frame whether it was taken."""


def values_of(frame_id: int, count: int) -> NDArray[np.uint8]:
    """What a frame's samples are, so that a recording can be compared with what was sent."""
    return ((frame_id + 3 * np.arange(count)) % 251).astype(np.uint8)


class Player:
    """One client: plays, comes back, obeys `overloaded`, and believes nothing it was not told."""

    def __init__(self, url: str, index: int, pace: Pace) -> None:
        self.index = index
        self.books = Books()
        self.session_ids: list[str] = []
        self.sent_at_secs: dict[int, float] = {}
        self.answers: list[tuple[float, int]] = []
        """(when, frame id) of all coordinates that came, in order."""
        self.model_versions: list[str] = []
        """Every other version than the one before, in order."""
        self.astray: list[str] = []
        """What came that cannot be meant for this player, or goes backwards."""
        self.recorded: list[tuple[float, int]] = []
        """(when, frame id) of all that the server said was recorded."""
        self._url, self._pace = url, pace
        self._next_frame_id = index * IDS_PER_PLAYER
        self._beats = 0
        self._set: CoordinateSet | None = None
        self._paused_until_secs = 0.0
        self._last_state: NDArray[np.float32] | None = None
        self._resting = False
        self._settled = asyncio.Event()

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with connect(
                    self._url,
                    subprotocols=[Subprotocol(binary_codec.SUBPROTOCOL)],
                    compression=None,
                    ping_interval=None,
                ) as socket:
                    await self._play(socket)
            self.books.lost_connection()
            await asyncio.sleep(RECONNECT_SECS)

    async def rest(self) -> None:
        """Send no more frames, and return when the server has told of all that were sent."""
        self._resting = True
        self._settled.clear()
        await self._settled.wait()

    async def send_last(self, state: Sequence[float]) -> None:
        """Send one more frame, with this state vector, and rest."""
        self._last_state = np.array(state, np.float32)
        await self.rest()

    def go_on(self) -> None:
        self._resting = False

    async def _play(self, socket: ClientConnection) -> None:
        await self._start(socket)
        sending = asyncio.create_task(self._send_frames(socket))
        try:
            await self._receive(socket)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _start(self, socket: ClientConnection) -> None:
        resumes = self.session_ids[-1] if self.session_ids else None
        start = SessionStart(
            checkpoint_key="faults",
            resolution=RESOLUTION,
            max_state_dim=64,
            resume_session_id=resumes,
        )
        await socket.send(json_codec.encode(start))
        async with asyncio.timeout(ANSWER_TIMEOUT_SECS):
            reply = json_codec.decode_server_message(await socket.recv())
        if isinstance(reply, Error):
            self._take_refused_start(reply)
        if not isinstance(reply, SessionStartAck):
            raise ConnectionAbortedError(f"no session: {reply}")
        if reply.session_id not in self.session_ids:
            self.session_ids.append(reply.session_id)
        self.books.resumed(reply.last_frame_id)

    def _take_refused_start(self, error: Error) -> None:
        self.books.errors[error.code] += 1
        if error.code == ErrorCode.SESSION_NOT_FOUND:
            self.session_ids.append("")  # what comes is another session

    async def _send_frames(self, socket: ClientConnection) -> None:
        due_secs = time.monotonic()
        while True:
            due_secs = max(due_secs + 1 / self._pace.frames_per_sec, time.monotonic() - 1)
            await asyncio.sleep(max(due_secs, self._paused_until_secs) - time.monotonic())
            if self._set is not None and (not self._resting or self._last_state is not None):
                await self._send_frame(socket, self._set)
            else:
                await self._send_heartbeat(socket)

    async def _send_frame(self, socket: ClientConnection, chosen: CoordinateSet) -> None:
        frame_id, self._next_frame_id = self._next_frame_id, self._next_frame_id + 1
        values = values_of(frame_id, len(chosen.coords)).astype(np.float32) / 255
        frame = SampledFrame(
            frame_id=frame_id,
            coordinate_set_id=chosen.coordinate_set_id,
            samples=np.insert(chosen.coords, 2, values, axis=1),
            state=NO_STATE if self._last_state is None else self._last_state,
            resolution=RESOLUTION,
            timestamp=time.time(),
        )
        self.sent_at_secs[frame_id] = time.monotonic()
        self.books.sent_frame(frame_id)
        self._last_state = None
        await socket.send(binary_codec.encode_frame(frame))
        if frame_id % self._pace.frames_per_heartbeat == 0:
            await self._send_heartbeat(socket)

    async def _send_heartbeat(self, socket: ClientConnection) -> None:
        self._beats += 1
        self.books.sent_heartbeat(self._beats)
        await socket.send(json_codec.encode(Heartbeat(timestamp=float(self._beats))))

    async def _receive(self, socket: ClientConnection) -> None:
        async for raw in socket:
            if isinstance(raw, bytes):
                self._take_coordinates(binary_codec.decode_server_message(raw))
                continue
            match json_codec.decode_server_message(raw):
                case HeartbeatAck() as ack:
                    self._take_heartbeat_ack(ack)
                case Error() as error:
                    self.books.took_error(error.code)
                    pause_secs = error.retry_after_secs or 0.0
                    self._paused_until_secs = time.monotonic() + pause_secs
        raise ConnectionAbortedError("the server closed")

    def _take_coordinates(self, chosen: CoordinateSet) -> None:
        self._set = chosen
        frame_id = chosen.frame_id
        if frame_id < 0:  # the first set of a connection answers no frame
            return
        if frame_id not in self.sent_at_secs:
            self.astray.append(f"an answer to {frame_id}, which was never sent")
        elif chosen.coordinate_set_id != chosen_set_id(frame_id):
            self.astray.append(f"set {chosen.coordinate_set_id} for frame {frame_id}")
        elif self.answers and frame_id <= self.answers[-1][1]:
            self.astray.append(f"an answer to {frame_id} after {self.answers[-1][1]}")
        self.answers.append((time.monotonic(), frame_id))
        if self.model_versions[-1:] != [chosen.model_version]:
            self.model_versions.append(chosen.model_version)

    def _take_heartbeat_ack(self, ack: HeartbeatAck) -> None:
        recorded_id = ack.last_recorded_frame_id
        if recorded_id >= 0 and recorded_id not in self.sent_at_secs:
            self.astray.append(f"frame {recorded_id} is said to be recorded, it was never sent")
        self.recorded.append((time.monotonic(), recorded_id))
        self.books.took_heartbeat_ack(int(ack.timestamp))
        if self._resting and self._last_state is None and self.books.is_settled:
            self._settled.set()

    def answered_after_secs(self, since_secs: float) -> float | None:
        """From then to the first answer to a frame that was sent after it; None: not yet."""
        return self._first_after_secs(self.answers, since_secs)

    def recorded_after_secs(self, since_secs: float) -> float | None:
        """From then to the first word that a frame sent after it is recorded; None: not yet."""
        return self._first_after_secs(self.recorded, since_secs)

    def _first_after_secs(self, told: list[tuple[float, int]], since_secs: float) -> float | None:
        start = bisect_left(told, (since_secs, -1))
        for at_secs, frame_id in told[start:]:
            if self.sent_at_secs.get(frame_id, 0.0) >= since_secs:
                return at_secs - since_secs
        return None

    def ages_secs(self, since_secs: float, until_secs: float) -> list[float]:
        """Of the answers that came between: how long ago their frames were sent."""
        return [
            at_secs - self.sent_at_secs[frame_id]
            for at_secs, frame_id in self.answers
            if since_secs <= at_secs < until_secs and frame_id in self.sent_at_secs
        ]


@dataclass(frozen=True)
class Load:
    """All players together."""

    players: list[Player]

    @property
    def accepted_count(self) -> int:
        return sum(player.books.accepted_count for player in self.players)

    @property
    def answer_count(self) -> int:
        return sum(len(player.answers) for player in self.players)

    @property
    def errors(self) -> Counter[str]:
        return sum((player.books.errors for player in self.players), Counter())

    async def until_accepted(self, count: int) -> None:
        while self.accepted_count < count:
            await asyncio.sleep(0.05)

    async def until_fresh(self, since_secs: float, *, timeout_secs: float = 20.0) -> float:
        """Seconds until every player had an answer to a frame sent later; inf: some never had."""
        return await self._slowest_secs(
            lambda player: player.answered_after_secs(since_secs), timeout_secs
        )

    async def until_recorded(self, since_secs: float, *, timeout_secs: float = 20.0) -> float:
        """Seconds until every player was told that a frame sent later is recorded."""
        return await self._slowest_secs(
            lambda player: player.recorded_after_secs(since_secs), timeout_secs
        )

    async def _slowest_secs(
        self, secs_of: Callable[[Player], float | None], timeout_secs: float
    ) -> float:
        deadline_secs = time.monotonic() + timeout_secs
        while None in (secs := [secs_of(player) for player in self.players]):
            if time.monotonic() > deadline_secs:
                return math.inf
            await asyncio.sleep(0.02)
        return max(filter(None, secs))

    async def rest(self) -> None:
        async with asyncio.timeout(REST_TIMEOUT_SECS):
            await asyncio.gather(*(player.rest() for player in self.players))

    def go_on(self) -> None:
        for player in self.players:
            player.go_on()

    def sent_at_secs(self, frame_id: int) -> float:
        return self.players[frame_id // IDS_PER_PLAYER].sent_at_secs[frame_id]

    def percentile_age_secs(self, percent: float, since_secs: float, until_secs: float) -> float:
        ages = [age for p in self.players for age in p.ages_secs(since_secs, until_secs)]
        return float(np.percentile(ages, percent)) if ages else math.inf


@asynccontextmanager
async def playing(
    url: str, *, sessions: int, pace: Pace, first_index: int = 0
) -> AsyncIterator[Load]:
    """So many players, each with a first answer when this begins, until it ends."""
    indices = range(first_index, first_index + sessions)
    load = Load([Player(url, index, pace) for index in indices])
    tasks = [asyncio.create_task(player.run()) for player in load.players]
    try:
        slowest_secs = await load.until_fresh(time.monotonic(), timeout_secs=30)
        assert slowest_secs < math.inf, f"no answers at the beginning; refusals: {load.errors}"
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
