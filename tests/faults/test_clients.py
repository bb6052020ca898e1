"""Clients that stop reading, or are gone without a word."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from websockets.asyncio.client import ClientConnection

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Load, Pace, Player
from faults.report import FaultTable
from faults.rig import Rig
from proxy import Proxy
from sgaps.protocol import binary_codec

PACE = Pace(frames_per_sec=25)
WINDOW_SECS = 1.0
MAX_DROP_SECS = 40.0


class DeafPlayer(Player):
    """Plays on, and reads nothing more once it has its first coordinates."""

    async def _receive(self, socket: ClientConnection) -> None:
        first = await socket.recv()
        assert isinstance(first, bytes)
        self._take_coordinates(binary_codec.decode_server_message(first))
        socket.transport.pause_reading()
        await asyncio.Event().wait()


@asynccontextmanager
async def deaf_and_dead(rig: Rig) -> AsyncIterator[list[Player]]:
    """One client that never reads again, and one whose cable was pulled."""
    proxy = Proxy(rig.port, slow_secs=0)
    await proxy.start()
    deaf = DeafPlayer(rig.ws_url, 100, PACE)
    dead = Player(rig.ws_url.replace(str(rig.port), str(proxy.port)), 101, PACE)
    tasks = [asyncio.create_task(player.run()) for player in (deaf, dead)]
    while not (deaf.sent_at_secs and dead.answers):
        await asyncio.sleep(0.02)
    proxy.hurt("half-open")
    yield [deaf, dead]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await proxy.stop()


async def dropped_after_secs(rig: Rig, player: Player) -> float:
    """Seconds until the gateway has let go of a player."""
    started_secs = time.monotonic()
    async with asyncio.timeout(2 * MAX_DROP_SECS):
        while await rig.is_connected(player.session_ids[-1]):
            await asyncio.sleep(0.1)
    return time.monotonic() - started_secs


def typical_p99_secs(load: Load, since_secs: float) -> float:
    """Median over windows of the 99th percentile of the age of answers, from then to now."""
    count = int((time.monotonic() - since_secs) / WINDOW_SECS)
    starts = [since_secs + number * WINDOW_SECS for number in range(count)]
    return median(load.percentile_age_secs(99, start, start + WINDOW_SECS) for start in starts)


async def test_slow_and_dead_clients(start_rig: StartRig, faults: FaultTable, form: Form) -> None:
    """The short form has a gateway with little patience, and leaves speed to the long one."""
    impatient = ["server.ping_interval_secs=1", "server.client_timeout_secs=3"]
    async with (
        start_rig(overrides=form(impatient, [])) as rig,
        rig.playing(sessions=4, pace=PACE) as load,
    ):
        # As many players before as after, so that what differs is that two of them do not read.
        async with rig.playing(sessions=2, pace=PACE, first_index=4) as readers:
            await asyncio.sleep(1)
            before_since_secs = time.monotonic()
            await asyncio.sleep(form(3, 30))
            before_secs = typical_p99_secs(load, before_since_secs)
            await readers.rest()
        beside_since_secs = time.monotonic()
        async with deaf_and_dead(rig) as players:
            dropped_secs = await asyncio.gather(*(dropped_after_secs(rig, p) for p in players))
            beside_secs = typical_p99_secs(load, beside_since_secs)
            audit = await audited(rig, load, earlier=readers)
    problems = audit.problems(except_for={"miscounted"})
    slower = beside_secs / before_secs - 1
    faults.add(
        "a client that stops reading, and a dead one",
        times="once each",
        figure=f"dropped after {dropped_secs[0]:.0f} s and {dropped_secs[1]:.0f} s; p99 of the "
        f"others {before_secs * 1000:.0f} → {beside_secs * 1000:.0f} ms ({slower:+.0%})",
        target="dropped alone ≤ 40 s; " + form("the others go on", "≤ +10 %"),
        met=not problems and max(dropped_secs) <= MAX_DROP_SECS and slower <= form(math.inf, 0.1),
        why=(problems, audit),
    )
