"""`sgaps bench training`: frames that a run learns from, beside the same steps without loading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sgaps.settings import load_settings
from sgaps_cli.bench.pictures import on_cpu
from sgaps_cli.bench.processes import result_of
from sgaps_cli.bench.report import Figure, Run, Used, throughput, tracked
from sgaps_cli.capture import capture_source

# By its name: whatever has to do with a model is imported by its own process alone.
LOOP = "sgaps_cli.bench.training_loop"
GAME, KEY = "doom/my_way_home", "bench"
SESSIONS = 2
BATCHES_OF_A_SESSION = 2
"""None is left unfilled, so every step has as many frames."""
ALWAYS = ("training.curriculum=[]", "training.max_epochs=1000000", "training.max_secs=1000000")
"""As many samples as are served, in a run that does not end by itself."""


def bench_training(*, steps: int, repeats: int, overrides: Sequence[str] = ()) -> Figure:
    """With the settings of `sgaps train`; ours and the floor take turns.

    Raises BrokerError, RecordingError, SettingsError, SourceError.
    """
    settings = [*overrides, *ALWAYS]
    training = load_settings(settings, environment={}).training
    ours, floor = [], []
    with TemporaryDirectory() as folder:
        frames = training.batch_size * BATCHES_OF_A_SESSION
        capture_source(
            GAME, frames=frames, sessions=SESSIONS, out=Path(folder), key=KEY, width=None, seed=0
        )
        settings.append(f"data.recordings_dir={folder}")
        for _ in tracked(range(repeats), "training"):
            ours.append(_run("ours", steps, settings))
            floor.append(_run("floor", steps, settings))
    devices, runs = zip(*ours, strict=True)
    where = "GPU" if "cuda" in devices else on_cpu(training.cpu_threads)
    return throughput(
        f"training, {where}, {GAME}, batch {training.batch_size}, workers {training.workers}",
        runs,
        [run for _, run in floor],
        floor_is="the same steps of one batch that stays in memory",
    )


def _run(side: str, steps: int, settings: Sequence[str]) -> tuple[str, Run]:
    """The kind of device, and what was done on it."""
    told = result_of(LOOP, side, steps, *settings)
    each = {name: Used(**used) for name, used in told["run"]["by_process"].items()}
    return told["device"], Run(**{**told["run"], "by_process": each})
