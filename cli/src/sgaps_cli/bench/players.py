"""Many players: `python -m sgaps_cli.bench.players accepted|answered PLAYERS FRAMES PIDS URL...`.

Each sends ten frames a second to one of the gateways, whatever comes back. `answered`: until the
coordinates are there. `accepted`: until the gateway has stored the frame, which a heartbeat behind
every fifth frame tells, for messages are handled in order. Prints how long that took, and the
processors that it kept busy meanwhile: those of the processes named, and the players' own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import cycle

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from sgaps.protocol import json_codec
from sgaps.protocol.messages import Heartbeat, HeartbeatAck
from sgaps_cli.bench.latency import FRAMES_PER_SEC, Answers, Player, Watch
from sgaps_cli.bench.load import BINARY
from sgaps_cli.bench.processes import cpu_secs

ASKED_EVERY = 5
"""Which of a player's frames are asked after, where none is answered."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """What came of so many players."""

    answers: Answers
    cores: list[float]
    """Kept busy by each of the processes, and by the players."""


class AskingPlayer(Player):
    """Asks whether its frame is stored."""

    async def send(self, frame_id: int) -> None:
        await super().send(frame_id)
        if frame_id % ASKED_EVERY == 0:
            await self.socket.send(json_codec.encode(Heartbeat(timestamp=frame_id)))

    async def receive(self) -> None:
        async for raw in self.socket:
            ack = json_codec.decode_server_message(raw)
            if not isinstance(ack, HeartbeatAck):
                raise TypeError(f"the server refused a frame: {ack}")
            self.watch.answered(self.number, int(ack.timestamp))


WAYS: dict[str, tuple[type[Player], int]] = {
    "answered": (Player, 1),
    "accepted": (AskingPlayer, ASKED_EVERY),
}
"""Who plays, and which frames have an answer."""


async def played(
    way: str, players: int, frames: int, pids: Sequence[int], urls: Sequence[str]
) -> Game:
    """Raises TypeError where a frame is refused."""
    kind, every = WAYS[way]
    watch = Watch(frames, FRAMES_PER_SEC, players=players, every=every)
    async with AsyncExitStack() as together:
        all_players = []
        for number, url in zip(range(players), cycle(urls), strict=False):
            joining = connect(url, subprotocols=[Subprotocol(BINARY)], compression=None)
            all_players.append(kind(number, await together.enter_async_context(joining), watch))
            await all_players[-1].begin()
        before_secs, began_secs = _cpu_secs(pids), time.perf_counter()
        async with asyncio.TaskGroup() as receiving:
            tasks = [receiving.create_task(player.receive()) for player in all_players]
            await asyncio.gather(*(watch.play(p.number, p.send) for p in all_players))
            secs, used_secs = time.perf_counter() - began_secs, _cpu_secs(pids)
            answers = await watch.result()
            for task in tasks:
                task.cancel()
    spent = zip(before_secs, used_secs, strict=True)
    return Game(answers=answers, cores=[(after - before) / secs for before, after in spent])


def _cpu_secs(pids: Sequence[int]) -> list[float]:
    return [*map(cpu_secs, pids), time.process_time()]


if __name__ == "__main__":
    way, players, frames, pids, *urls = sys.argv[1:]
    game = played(way, int(players), int(frames), list(map(int, pids.split(","))), urls)
    print(json.dumps(asdict(asyncio.run(game))))
