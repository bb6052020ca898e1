"""`python -m trainer.train`: one run by hand, with a progress bar. `sgaps train` calls it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sgaps.checkpoints import DEFAULT_KEY, CheckpointDirectory
from sgaps.ending import asked_or_insisted, end_by, end_signals
from sgaps.errors import SgapsError
from sgaps.model import pick_device
from sgaps.open_files import allow_most_open_files
from sgaps.recording import SegmentInfo, find_segments, segment_info
from sgaps.settings import Settings, load_settings
from sgaps.terminal import dispensable_stderr
from trainer.ranks import Ranks, joined
from trainer.run import RunOptions, RunReport, train_key
from trainer.run_log import RunLog, wandb_is_wanted_but_missing
from trainer.schedule import Progress
from trainer.segments import each_once

INTERRUPTED = 128 + signal.SIGINT
STDERR_FILENO = 2
STOPPING = b"\ntrain: ends after this step; once more ends it at once\n"
BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


@dispensable_stderr()
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 published or kept, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = _parser().parse_intermixed_args(argv)
    logging.basicConfig(format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    stop = threading.Event()
    allow_most_open_files()  # the general checkpoint reads the folders of all keys
    hear = asked_or_insisted(lambda _: _finish(stop), end_by)
    for number in end_signals():
        signal.signal(number, lambda n, _: hear(n))
    try:
        settings = load_settings(arguments.overrides)
        with joined(pick_device(settings.training.device)) as ranks:
            report = _run(arguments.key, settings, stop, ranks=ranks, resume=arguments.resume)
    except SgapsError as error:
        sys.stderr.write(f"train: {error}\n")
        return 1
    if ranks.is_first:
        told = sys.stdout if report.finished else sys.stderr
        told.write(_told(report) + "\n")
    return 0 if report.finished else INTERRUPTED


def _finish(stop: threading.Event) -> None:
    """The run ends by itself; whoever does not want to wait for that asks once more."""
    stop.set()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # also in a step that never ends
    with suppress(OSError):  # past sys.stderr, in which this thread may just have been writing
        os.write(STDERR_FILENO, STOPPING)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgaps train",
        description="Train the checkpoint of a key on recordings; publish it if it is better.",
        epilog="example: sgaps train --key doom-my_way_home training.learning_rate=1e-3 "
        "training.max_secs=600 data.recordings_dir=data/recordings; "
        "on four GPUs: torchrun --standalone --nproc-per-node 4 -m trainer.train --key ...",
    )
    parser.add_argument(
        "--key",
        default=DEFAULT_KEY,
        help="checkpoint key to train; without it the general one, on the recordings of all",
    )
    parser.add_argument("--resume", action="store_true", help="take up the run that was cut off")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to override")
    return parser


def _run(
    key: str, settings: Settings, stop: threading.Event, *, ranks: Ranks, resume: bool
) -> RunReport:
    CheckpointDirectory(settings.data.checkpoints_dir).key_dir(key)  # before it names a folder
    named = _segments("data.train", settings.data.train)
    val = _segments("data.val", settings.data.val)
    is_general = key == DEFAULT_KEY
    train = named or find_segments(settings.data.recordings_dir, None if is_general else key)
    if not train:
        of_key = "" if is_general else f" of {key!r}"
        raise SgapsError(
            f"no sealed recordings{of_key} in {settings.data.recordings_dir}; "
            f"make some: play, or sgaps capture GAME{'' if is_general else f' --key {key}'}"
        )
    if not ranks.agree_on(zlib.crc32(repr([train, val]).encode())):
        raise SgapsError("recordings came or went while the ranks looked for them: start again")
    if wandb_is_wanted_but_missing(settings.logging):
        sys.stderr.write("W&B is not installed (pip install wandb): logging to files only\n")
    log = RunLog(key, settings) if ranks.is_first else None
    bar = tqdm(desc=f"train {key}", total=100, bar_format=BAR_FORMAT, disable=not ranks.is_first)

    def report(progress: Progress) -> None:
        bar.set_postfix(step=progress.step, loss=f"{progress.loss:.4f}", refresh=False)
        bar.update(100 * progress.part - bar.n)

    options = RunOptions(
        val=tuple(val),
        ranks=ranks,
        resumable=True,
        resume=resume,
        log=log,
    )
    try:
        with bar, logging_redirect_tqdm():
            return train_key(key, train, settings, stop=stop, report=report, options=options)
    finally:
        if log:
            _close(log)


def _close(log: RunLog) -> None:
    try:
        log.close()
    except OSError as error:
        sys.stderr.write(f"the log of this run is not whole: {error}\n")
    if log.folder.exists():
        sys.stderr.write(f"curves and pictures: {log.folder}\n")


def _segments(setting: str, paths: Sequence[Path]) -> list[SegmentInfo]:
    """Segments named as files or as folders of recordings. Raises SgapsError where one has none, or
    two sessions have one id.
    """
    segments: list[SegmentInfo] = []
    for path in paths:
        found = find_segments(path) if path.is_dir() else [segment_info(path)]
        if not found:
            raise SgapsError(
                f"{setting}: no sealed recordings are in {path}: name the folder that has "
                "<key>/<session>/*.h5 in it, or such files"
            )
        segments += found
    return each_once(setting, segments)


def _told(report: RunReport) -> str:
    if not report.finished:
        how = "the same command with --resume goes on" if report.resumable else "nothing is saved"
        return f"interrupted after {report.fit.steps} steps; {how}"
    gain = (
        f"held-out PSNR {report.challenger.told_against(report.champion)} "
        f"({report.champion_version}); "
        f"{report.fit.steps} steps in {report.fit.secs:.0f} s"
    )
    if report.atlas_gain_db:
        gain += f"; {report.atlas_gain_db:.2f} dB of it by the atlas of the level"
    if report.published is None:
        return f"kept {report.champion_version}: {gain}"
    return f"published {report.published.model_version}: {gain}"


if __name__ == "__main__":
    sys.exit(main())
