"""How long answers take: `python -m sgaps_cli.bench.latency pipeline|hops URL FRAMES PACE`.

Each of eight players sends PACE frames a second, whatever comes back; those in the first moments
are not counted. Prints what share of them was answered, and percentiles of the milliseconds from
before a frame is sent until its answer is there, both by the clock of this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sgaps_cli.bench import hop
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.load import BINARY, CONNECTIONS, IDS, IDS_AT, begin, first_frame, split_frame

FRAMES_PER_SEC = 10.0
"""Of each player: what clients are asked for."""
WARM_UP_FRAMES = 10
"""Of each player."""
PATIENCE_FRAMES = 50
"""So long as a player would need for them, the last answers are waited for; a frame that was
superseded has none."""

Send = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came of the frames that count."""

    answered_percent: float
    p50_ms: float
    p99_ms: float


class Watch:
    """When each frame of each player was sent, and how long its answer took."""

    def __init__(
        self, frames: int, frames_per_sec: float, *, players: int = CONNECTIONS, every: int = 1
    ) -> None:
        """`every`: which of a player's frames have an answer."""
        self.frames, self.frames_per_sec = frames, frames_per_sec
        self._players, self._answers = players, players * len(range(0, frames, every))
        self.latencies_secs: dict[tuple[int, int], float] = {}
        self.is_over = False
        """Whether nobody waits for answers any more."""
        self._complete = asyncio.Event()
        self._sent_at_secs: dict[tuple[int, int], float] = {}

    async def play(self, player: int, send: Send) -> None:
        """Send frames when they are due, a player a moment after the other."""
        begins_at_secs = time.perf_counter() + player / self._players / self.frames_per_sec
        for frame_id in range(WARM_UP_FRAMES + self.frames):
            due_at_secs = begins_at_secs + frame_id / self.frames_per_sec
            await asyncio.sleep(due_at_secs - time.perf_counter())
            self._sent_at_secs[player, frame_id] = time.perf_counter()
            await send(frame_id)

    def answered(self, player: int, frame_id: int) -> None:
        sent_at_secs = self._sent_at_secs.pop((player, frame_id), None)
        if sent_at_secs is None or frame_id < WARM_UP_FRAMES:
            return
        self.latencies_secs[player, frame_id] = time.perf_counter() - sent_at_secs
        if len(self.latencies_secs) == self._answers:
            self._complete.set()

    async def result(self) -> Answers:
        """When every answer is there, or no more will come."""
        try:
            async with asyncio.timeout(PATIENCE_FRAMES / self.frames_per_sec):
                await self._complete.wait()
        except TimeoutError:
            pass
        self.is_over = True
        latencies_ms = np.array(list(self.latencies_secs.values())) * 1000
        p50, p99 = np.percentile(latencies_ms, [50, 99]).tolist()
        return Answers(
            answered_percent=100 * len(latencies_ms) / self._answers,
            p50_ms=p50,
            p99_ms=p99,
        )


async def pipeline(url: str, watch: Watch) -> Answers:
    """Players of a gateway, each in the binary form, each sampling where it is told to."""
    async with AsyncExitStack() as together:
        players = [
            Player(
                number,
                await together.enter_async_context(
                    connect(url, subprotocols=[Subprotocol(BINARY)], compression=None)
                ),
                watch,
            )
            for number in range(CONNECTIONS)
        ]
        for player in players:
            await player.begin()
        receiving = [asyncio.create_task(player.receive()) for player in players]
        await asyncio.gather(*(watch.play(p.number, p.send) for p in players))
        answers = await watch.result()
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)
    return answers


class Player:
    """One session; its samples are always the same noise, wherever it is to look."""

    def __init__(self, number: int, socket: ClientConnection, watch: Watch) -> None:
        self.number = number
        self.socket, self.watch = socket, watch
        self._head = self._tail = b""
        self._set_id = 0

    async def begin(self) -> None:
        chosen = await begin(self.socket)
        self._head, self._tail = split_frame(first_frame(chosen))
        self._set_id = chosen.coordinate_set_id

    async def send(self, frame_id: int) -> None:
        await self.socket.send(self._head + IDS.pack(frame_id, self._set_id) + self._tail)

    async def receive(self) -> None:
        async for raw in self.socket:
            if not isinstance(raw, bytes):
                raise TypeError(f"the server refused a frame: {raw}")
            frame_id, self._set_id = IDS.unpack_from(raw, IDS_AT)
            self.watch.answered(self.number, frame_id)


async def hops(url: str, watch: Watch) -> Answers:
    """A frame's bytes onto the first stream of bare processes, and off the last."""
    data = accepted_frames(1)[0].encode()
    async with Redis.from_url(url) as redis:
        receiving = asyncio.create_task(_receive_hops(redis, watch))
        await asyncio.gather(
            *(watch.play(player, _hopping(redis, player, data)) for player in range(CONNECTIONS))
        )
        answers = await watch.result()
        await receiving
    return answers


def _hopping(redis: Redis, player: int, data: bytes) -> Send:
    return lambda frame_id: redis.xadd(hop.STREAMS[0], {b"m": data, b"i": f"{player} {frame_id}"})


async def _receive_hops(redis: Redis, watch: Watch) -> None:
    while not watch.is_over:
        reply: Any = await redis.xreadgroup(
            hop.GROUP, "bench", {hop.STREAMS[-1]: ">"}, count=hop.BATCH, block=hop.BLOCK_MILLIS
        )
        for _, rows in reply:
            for entry_id, fields in rows:
                player, frame_id = map(int, fields[b"i"].split())
                watch.answered(player, frame_id)
                await redis.xack(hop.STREAMS[-1], hop.GROUP, entry_id)


def main(way: str, url: str, frames: int, frames_per_sec: float) -> Answers:
    async def measured() -> Answers:
        watch = Watch(frames, frames_per_sec)
        return await (pipeline if way == "pipeline" else hops)(url, watch)

    return asyncio.run(measured())


if __name__ == "__main__":
    answers = main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    print(json.dumps(asdict(answers)))
