"""`sgaps bench scaling`: replicas of the reconstructor, each with a model of a fixed time.

The model sleeps, so what is measured is whether replicas hold one another up: the broker, the
stream, the loop around the model. More processes than this machine has cores tell that as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from redis import Redis

from sgaps.messages import FrameAccepted
from sgaps_cli.bench.drain import hold_and_fill, release
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.processes import FIXED_MODEL, cpu_secs, own_broker, peak_memory_mib, ready
from sgaps_cli.bench.report import Figure, Run, Target, throughput, tracked

TARGET = Target(limit=0.9)
REPLICAS = (1, 2, 4)
BATCH = 4
"""Frames of a turn, of which none supersedes another: neighbours are of different sessions."""
MODEL_SECS = 0.04
"""For a batch."""
FRAMES_PER_SEC = BATCH / MODEL_SECS


def bench_scaling(*, frames: int, repeats: int) -> list[Figure]:
    """A figure for each number of replicas but one, each with so many frames to do, all at once.

    Raises BrokerError.
    """
    runs: dict[int, list[Run]] = {replicas: [] for replicas in REPLICAS}
    waiting = accepted_frames(frames * max(REPLICAS))
    with own_broker() as url, Redis.from_url(url) as redis:
        for _ in tracked(range(repeats), "scaling"):
            for replicas in REPLICAS:
                runs[replicas].append(_run(url, redis, waiting[: frames * replicas], replicas))
    return [
        throughput(
            f"scaling, {replicas} reconstructors of {FRAMES_PER_SEC:g} frames/s",
            runs[replicas],
            [_times(run, replicas) for run in runs[1]],
            floor_is="one reconstructor, times their number",
            target=TARGET,
        )
        for replicas in REPLICAS[1:]
    ]


def _times(run: Run, replicas: int) -> Run:
    return Run(
        frames_per_sec=run.frames_per_sec * replicas,
        cpu_secs_per_1000_frames=run.cpu_secs_per_1000_frames,
        peak_memory_mib=run.peak_memory_mib * replicas,
    )


def _run(url: str, redis: Redis, waiting: Sequence[FrameAccepted], replicas: int) -> Run:
    redis.flushall()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        processes = [
            started.enter_context(
                ready(_command(url, folder), redis, service="reconstructor", instance=f"bench-{n}")
            )
            for n in range(replicas)
        ]
        pids = [process.pid for process in processes]
        hold_and_fill(redis, processes, waiting)
        before_secs = cpu_secs(*pids)
        secs = release(redis, processes, waiting, group="reconstructor")
        return Run(
            frames_per_sec=len(waiting) / secs,
            cpu_secs_per_1000_frames=(cpu_secs(*pids) - before_secs) / len(waiting) * 1000,
            peak_memory_mib=peak_memory_mib(*pids),
        )


def _command(url: str, folder: str) -> list[str]:
    model = ["--frames-at-once", str(BATCH), "--secs", str(MODEL_SECS)]
    settings = [f"bus.url={url}", f"bus.batch_size={BATCH}", f"data.checkpoints_dir={folder}"]
    return ["-m", FIXED_MODEL, *model, *settings]
