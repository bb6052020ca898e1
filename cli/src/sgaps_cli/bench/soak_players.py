"""Players who come and go: `python -m sgaps_cli.bench.soak_players URL SECS INTERVALS`.

Sixteen at a time, each at ten frames a second, in sessions of five seconds one after the other. One
session in four is cut off instead of closed, and those of one player are watched. Prints a line of
JSON behind each interval: what came of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from sgaps.protocol import json_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import Heartbeat
from sgaps.protocol.views import ViewStart
from sgaps_cli.bench.latency import FRAMES_PER_SEC
from sgaps_cli.bench.load import BINARY, IDS, IDS_AT, first_frame, split_frame, start

PLAYERS = 16
FRAMES = 50
"""Of each session."""
ASKED_EVERY = 10
"""Which frames a heartbeat follows."""
CUT_OFF_EVERY = 4
"""Which sessions end without a word."""
WATCHED = 0
"""The player who is looked at."""
LAST_ANSWER_SECS = 0.5
"""So long is waited for it."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What came of the frames that all players sent in so many seconds."""

    sessions: int
    frames: int
    answered: int
    refused: int
    views: int
    """Pictures that the viewer was sent."""
    p50_ms: float
    p99_ms: float


@dataclass
class Seen:
    """By a player since the interval began."""

    sessions: int = 0
    frames: int = 0
    refused: int = 0
    views: int = 0
    latencies_ms: list[float] = field(default_factory=list)


class Player:
    """Plays one session after the other; its samples are always the same noise."""

    def __init__(self, url: str, number: int) -> None:
        self._url, self._number = url, number
        self._seen = Seen()
        self._set_id = 0
        self._sent_at_secs: dict[int, float] = {}

    def take_seen(self) -> Seen:
        """What has been seen since this was asked before."""
        seen, self._seen = self._seen, Seen()
        return seen

    async def run(self, until_secs: float) -> None:
        """By the monotonic clock. Raises ConnectionClosed where the server ends a session."""
        await asyncio.sleep(self._number / PLAYERS / FRAMES_PER_SEC)
        sessions = 0
        while time.monotonic() < until_secs:
            joining = connect(self._url, subprotocols=[Subprotocol(BINARY)], compression=None)
            async with joining as socket:
                await self._play(socket)
                if sessions % CUT_OFF_EVERY == 0:
                    socket.transport.abort()
            sessions += 1

    async def _play(self, socket: ClientConnection) -> None:
        ack, chosen = await start(socket)
        self._seen.sessions += 1
        self._set_id, self._sent_at_secs = chosen.coordinate_set_id, {}
        listening = [asyncio.create_task(self._hear(socket))]
        if self._number == WATCHED:
            listening.append(asyncio.create_task(self._watch(ack.session_id)))
        await self._send(socket, chosen)
        await asyncio.sleep(LAST_ANSWER_SECS)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)

    async def _send(self, socket: ClientConnection, chosen: CoordinateSet) -> None:
        head, tail = split_frame(first_frame(chosen))
        began_secs = time.monotonic()
        for frame_id in range(FRAMES):
            await asyncio.sleep(began_secs + frame_id / FRAMES_PER_SEC - time.monotonic())
            self._sent_at_secs[frame_id] = time.monotonic()
            await socket.send(head + IDS.pack(frame_id, self._set_id) + tail)
            self._seen.frames += 1
            if frame_id % ASKED_EVERY == 0:
                await socket.send(json_codec.encode(Heartbeat(timestamp=frame_id)))

    async def _hear(self, socket: ClientConnection) -> None:
        async for raw in socket:
            if isinstance(raw, str):
                self._seen.refused += "heartbeat_ack" not in raw
                continue
            frame_id, self._set_id = IDS.unpack_from(raw, IDS_AT)
            secs = time.monotonic() - self._sent_at_secs.pop(frame_id)
            self._seen.latencies_ms.append(1000 * secs)

    async def _watch(self, session_id: str) -> None:
        url = self._url.replace("/ws/stream", f"/ws/view/{session_id}")
        async with connect(url, compression=None) as socket:
            await socket.send(json_codec.encode(ViewStart()))
            with suppress(ConnectionClosed):
                async for raw in socket:
                    self._seen.views += isinstance(raw, bytes)


def together(seen: Sequence[Seen]) -> Interval:
    """What all players have seen in the same time."""
    latencies_ms = [ms for one in seen for ms in one.latencies_ms]
    p50_ms, p99_ms = np.percentile(latencies_ms or [np.nan], [50, 99]).tolist()
    return Interval(
        sessions=sum(one.sessions for one in seen),
        frames=sum(one.frames for one in seen),
        answered=len(latencies_ms),
        refused=sum(one.refused for one in seen),
        views=sum(one.views for one in seen),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
    )


async def main(url: str, secs: float, intervals: int) -> None:
    """Raises ExceptionGroup where the server refuses or ends a session, or cannot be reached."""
    began_secs = time.monotonic()
    players = [Player(url, number) for number in range(PLAYERS)]
    async with asyncio.TaskGroup() as playing:
        for player in players:
            playing.create_task(player.run(began_secs + secs))
        for number in range(1, intervals + 1):
            await asyncio.sleep(began_secs + number * secs / intervals - time.monotonic())
            interval = together([player.take_seen() for player in players])
            print(json.dumps(asdict(interval)), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
    except* (OSError, TypeError, WebSocketException) as failed:
        sys.exit(f"{failed.exceptions[0]}")
