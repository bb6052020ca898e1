"""`sgaps bench recorder`: frames per second to fsynced HDF5, beside h5py appends alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from redis import Redis

from sgaps.messages import FrameAccepted
from sgaps_cli.bench import recorder_floor
from sgaps_cli.bench.drain import hold_and_fill, release
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.processes import Meter, own_broker, ready, result_of
from sgaps_cli.bench.report import Figure, Run, Target, throughput, tracked

TARGET = Target(limit=0.8)


def bench_recorder(*, frames: int, repeats: int) -> Figure:
    """A real recorder and the floor take turns. Raises BrokerError."""
    waiting = accepted_frames(frames)
    ours, floor = [], []
    with own_broker() as url, Redis.from_url(url) as redis:
        for _ in tracked(range(repeats), "recorder"):
            ours.append(_run(url, redis, waiting))
            floor.append(Run(**result_of(recorder_floor.__name__, frames)))
    return throughput(
        "recorder",
        ours,
        floor,
        floor_is="the same arrays, at hand, appended by h5py alone, with as many fsyncs",
        target=TARGET,
    )


def _run(url: str, redis: Redis, waiting: Sequence[FrameAccepted]) -> Run:
    """Everything is on the stream before it begins: it reads, decodes, writes, acknowledges."""
    redis.flushall()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "-m",
            "recorder",
            f"bus.url={url}",
            f"bus.batch_size={recorder_floor.BATCH}",
            f"data.recordings_dir={folder}",
        ]
        with ready(command, redis, service="recorder") as process:
            hold_and_fill(redis, [process], waiting)
            with Meter(len(waiting), {"recorder": process.pid}) as meter:
                release(redis, [process], waiting, group="recorder")
    return meter.run
