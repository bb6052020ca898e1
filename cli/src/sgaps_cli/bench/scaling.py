"""`sgaps bench scaling`: replicas of the reconstructor, each with a model of a fixed time.

The model sleeps, so what is measured is whether replicas hold one another up: the broker, the
stream, the loop around the model. More processes than this machine has cores tell that as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from redis import Redis

from sgaps.messages import FrameAccepted
from sgaps_cli.bench.drain import hold_and_fill, release
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.processes import FIXED_MODEL, Meter, own_broker, ready
from sgaps_cli.bench.report import Figure, Run, Target, throughput, tracked

TARGET = Target(limit=0.9)
REPLICAS = (1, 2, 4)
BATCH = 4
"""Frames of a turn, of which none supersedes another: neighbours are of different sessions."""
MODEL_SECS = 0.04
"""For a batch."""
FRAMES_PER_SEC = BATCH / MODEL_SECS


def bench_scaling(*, frames: int, repeats: int, replicas: Sequence[int] = REPLICAS) -> list[Figure]:
    """A figure for each number of replicas but one, each with so many frames to do, all at once.

    Raises BrokerError.
    """
    runs: dict[int, list[Run]] = {count: [] for count in replicas}
    waiting = accepted_frames(frames * max(replicas))
    with own_broker() as url, Redis.from_url(url) as redis:
        for _ in tracked(range(repeats), "scaling"):
            for count in replicas:
                runs[count].append(_run(url, redis, waiting[: frames * count], count))
    return [
        throughput(
            f"scaling, {count} reconstructors of {FRAMES_PER_SEC:g} frames/s",
            runs[count],
            [replace(run, frames_per_sec=run.frames_per_sec * count) for run in runs[1]],
            floor_is="one reconstructor, times their number",
            target=TARGET,
        )
        for count in replicas
        if count > 1
    ]


def _run(url: str, redis: Redis, waiting: Sequence[FrameAccepted], replicas: int) -> Run:
    redis.flushall()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        processes = [
            started.enter_context(
                ready(_command(url, folder), redis, service="reconstructor", instance=f"bench-{n}")
            )
            for n in range(replicas)
        ]
        pids = {f"reconstructor {n}": process.pid for n, process in enumerate(processes, 1)}
        hold_and_fill(redis, processes, waiting)
        with Meter(len(waiting), pids) as meter:
            release(redis, processes, waiting, group="reconstructor")
    return meter.run


def _command(url: str, folder: str) -> list[str]:
    model = ["--frames-at-once", str(BATCH), "--secs", str(MODEL_SECS)]
    settings = [f"bus.url={url}", f"bus.batch_size={BATCH}", f"data.checkpoints_dir={folder}"]
    return ["-m", FIXED_MODEL, *model, *settings]
