"""`sgaps bench alternatives`: beside what one would take instead of all this.

That is one process without a broker on the server's side, and x264 on the client's. They are
neither floors nor targets: each does less, or something else, and docs/performance.md says what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis import Redis

from sgaps_cli import broker
from sgaps_cli.bench.load import CONNECTIONS
from sgaps_cli.bench.pipeline import Played, latencies, play, services
from sgaps_cli.bench.processes import listening, own_broker, result_of
from sgaps_cli.bench.report import Figure, Line, Unmeasured, Work, compared, tracked

FRAMES_PER_SEC = 1.0
"""Of each of eight players: about half of what the model does on one core, so nobody waits."""
SOURCE = "doom/my_way_home"
# By their names: whatever has to do with a model is imported by its own process alone.
SINGLE = "sgaps_cli.bench.single"
CLIENT_LOOP = "sgaps_cli.bench.client_loop"
SINGLE_IS = "of the server, one process without a broker and the same model"
X264_IS = (
    "of the client, libx264 (zerolatency, medium) with the whole picture, as many bytes a second"
)
READBACK = Unmeasured(
    name="alternatives, readback from a GPU",
    why="no game draws on one here; 500 squares are 500 bytes, a gray 320x240 is 76,800",
)


@dataclass(frozen=True, kw_only=True)
class Spent(Work):
    """By a client that sends frames."""

    bytes_per_frame: float


def bench_alternatives(*, frames: int, repeats: int) -> list[Line]:
    """`frames` are those of each of eight players. Raises BrokerError."""
    return [*_single(frames, repeats), *_x264(frames * CONNECTIONS, repeats), READBACK]


def _single(frames: int, repeats: int) -> list[Figure]:
    """A server's side; ours and the other take turns."""
    name = "alternatives, single process"
    ours, other = [], []
    for _ in tracked(range(repeats), "one process without a broker"):
        ours.append(_play_ours(frames))
        other.append(_play_single(frames))
    return [
        *latencies(name, ours, other, floor_is=SINGLE_IS, targets={}),
        compared(
            f"{name}, CPU",
            "s per 1,000 frames",
            lambda played: played.cpu_secs_per_1000_frames,
            ours,
            other,
            floor_is=SINGLE_IS,
        ),
        compared(
            f"{name}, memory",
            "peak MiB",
            lambda played: played.peak_memory_mib,
            ours,
            other,
            floor_is=SINGLE_IS,
        ),
    ]


def _play_ours(frames: int) -> Played:
    """What the broker uses counts, too."""
    with (
        own_broker() as url,
        Redis.from_url(url) as redis,
        services(url, model="reconstructor") as (port, pids),
    ):
        told: Any = redis.info("server")
        of_all = {**pids, "broker": int(told["process_id"])}
        return play(port, of_all, frames, frames_per_sec=FRAMES_PER_SEC)


def _play_single(frames: int) -> Played:
    port = broker.free_port()
    with listening(["-m", SINGLE, str(port)], port) as server:
        return play(port, {"single": server.pid}, frames, frames_per_sec=FRAMES_PER_SEC)


def _x264(frames: int, repeats: int) -> list[Figure]:
    """A client's side; ours and the other take turns."""
    ours, other = [], []
    for _ in tracked(range(repeats), "x264"):
        ours.append(_spent("ours", frames))
        other.append(_spent(round(ours[-1].bytes_per_frame), frames))
    return [
        compared(
            "alternatives, x264, CPU of the client",
            "ms per frame",
            # A second for a thousand frames is a millisecond for one.
            lambda spent: spent.cpu_secs_per_1000_frames,
            ours,
            other,
            floor_is=X264_IS,
        ),
        compared(
            "alternatives, x264, sent",
            "bytes per frame",
            lambda spent: spent.bytes_per_frame,
            ours,
            other,
            floor_is=X264_IS,
        ),
    ]


def _spent(side: str | int, frames: int) -> Spent:
    return Spent(**result_of(CLIENT_LOOP, side, SOURCE, frames))
