"""`python -m trainer.evaluate`: how good a checkpoint is on whole-frame recordings.

`sgaps evaluate` calls it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from sgaps.errors import SgapsError
from sgaps.model import prepare_cpu
from sgaps.settings import load_settings
from sgaps.terminal import dispensable_stderr
from trainer.comparison import PERCEPTUAL_INTERVAL, Report, compare
from trainer.measured_frames import MIN_FRAMES
from trainer.pictures import Picture, stacked
from trainer.scores import Mean, Row


@dispensable_stderr()
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = _parser().parse_intermixed_args(argv)
    try:
        for path in filter(None, (arguments.picture, arguments.curve)):
            _check_writable(path)
        settings = load_settings(arguments.overrides)
        prepare_cpu(settings.training.cpu_threads)
        report, pictures = compare(
            arguments.key, settings, frames=arguments.frames, counts=arguments.samples
        )
        text = json.dumps(asdict(report), indent=2) if arguments.json else told(report)
        # It took long: what cannot be written must not cost the rest.
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        finally:
            _write_pictures(arguments, report, pictures)
    except SgapsError as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _write_pictures(arguments: argparse.Namespace, report: Report, pictures: list[Picture]) -> None:
    """Those that were asked for. Raises SgapsError."""
    if arguments.picture:
        _write_picture(arguments.picture, stacked(pictures))
    if arguments.curve:
        _write_curve(arguments.curve, efficiency_curve(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgaps evaluate",
        description="How well the checkpoint of a key rebuilds recordings with whole frames: one "
        "frame at a time and in closed loop, from points (random, on a jittered grid, by predicted "
        "error) and squares (even, by attention entropy, by predicted error), beside what needs no "
        "model.",
        epilog="example: sgaps evaluate --key doom-my_way_home 'data.test=[held_out]' "
        "--samples 250,500,750,1000 --picture figures.png --curve curve.png",
    )
    parser.add_argument("--key", required=True, help="checkpoint key to evaluate")
    parser.add_argument(
        "--frames",
        type=partial(_count, least=MIN_FRAMES),
        default=40,
        help=f"frames of each session, {MIN_FRAMES} at least (default 40)",
    )
    parser.add_argument(
        "--samples",
        type=_counts,
        default=(),
        metavar="N,N",
        help="samples per frame (default sampling.default_sample_count)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--picture",
        type=_picture_path,
        help="PNG to write: truth, samples, interpolation, reconstruction, error, importance",
    )
    parser.add_argument(
        "--curve",
        type=_curve_path,
        help="PNG to write: PSNR of every method over the samples per frame",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to override")
    return parser


def _count(text: str, *, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above {least - 1}")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _picture_path(text: str) -> Path:
    if not cv2.haveImageWriter(text):
        raise argparse.ArgumentTypeError(f"{text} has no suffix of a picture, such as .png")
    return Path(text)


def _curve_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower().removeprefix(".") not in FigureCanvasBase.get_supported_filetypes():
        raise argparse.ArgumentTypeError(f"{text} has no suffix of a figure, such as .png")
    return path


def _check_writable(path: Path) -> None:
    """Raises SgapsError."""
    if not path.parent.is_dir():
        raise SgapsError(f"there is no folder {path.parent} for {path.name}; make it")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SgapsError(f"{path} cannot be written; name another file")


def _write_picture(path: Path, picture: Picture) -> None:
    try:
        is_written = cv2.imwrite(str(path), picture)
    except cv2.error as error:
        raise SgapsError(f"{path} cannot be written: {error}") from error
    if not is_written:
        raise SgapsError(f"{path} cannot be written; is the disk full?")


def _write_curve(path: Path, curve: Figure) -> None:
    try:
        curve.savefig(path)
    except OSError as error:
        raise SgapsError(f"{path} cannot be written: {error}") from error


def told(report: Report) -> str:
    """The report as Markdown."""
    most = max(report.rows, key=lambda row: row.frames)
    lines = [
        f"`{report.key}`, model {report.model_version}, {most.frames} frames of {most.sessions} "
        "sessions, or as many as a row says; ± is half of the 95 % interval over sessions. "
        "Bytes of a frame: what the client sends + what it hears, which is where to look next. "
        f"ST-LPIPS, lower is better, of every {PERCEPTUAL_INTERVAL}th frame; – is not measured.",
        "",
        "| method | samples | bytes | PSNR, dB | SSIM | ST-LPIPS |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.method}{_fewer(r, most)} | {r.samples} | {_bytes(r)} "
        f"| {_measured(r.psnr_db, 2)} | {_measured(r.ssim, 3)} | {_measured(r.st_lpips, 3)} |"
        for r in report.rows
    ]
    lines += ["", "| paired by session | dB |", "|---|---|"]
    lines += [f"| {name} | {_signed(gain)} |" for name, gain in report.gains_db.items()]
    lines += ["", "| importance against the next frame's error | Spearman |", "|---|---|"]
    lines += [f"| {name} | {_signed(rank)} |" for name, rank in report.rank_correlations.items()]
    if report.told_psnr_db:
        lines += ["", "| PSNR that a client is told against the true one | dB |", "|---|---|"]
        lines += [f"| {name} | {_signed(gap)} |" for name, gap in report.told_psnr_db.items()]
    return "\n".join(lines)


def efficiency_curve(report: Report) -> Figure:
    """PSNR over the sample count: a line for each method."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    by_method: dict[str, list[Row]] = {}
    for row in report.rows:
        by_method.setdefault(row.method, []).append(row)
    for method, rows in by_method.items():
        values = [row.psnr_db.value for row in rows]
        if not rows[0].samples:  # without samples: the same at every count
            axes.axhline(values[0], linestyle=":", label=method)
            continue
        ours = method.startswith("model, closed loop")
        rows.sort(key=lambda row: row.samples)
        intervals = [i for row in rows if (i := row.psnr_db.interval) is not None]
        axes.errorbar(
            [row.samples for row in rows],
            [row.psnr_db.value for row in rows],
            intervals or None,  # all of the same sessions: of one there is none
            marker="o",
            capsize=3,
            linestyle="-" if ours else "--",
            label=method,
        )
    axes.set(xlabel="samples per frame", ylabel="PSNR, dB", title=report.key)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _fewer(row: Row, most: Row) -> str:
    """What a method was measured on, where it cannot do all: its means are of other frames."""
    if row.frames == most.frames:
        return ""
    return f" ({row.frames} frames of {row.sessions} sessions)"


def _bytes(row: Row) -> str:
    if row.bytes_up is None or row.bytes_down is None:
        return "–"
    return f"{row.bytes_up:.0f} + {row.bytes_down:.0f}"


def _measured(mean: Mean | None, digits: int) -> str:
    if mean is None:
        return "–"
    return f"{mean.value:.{digits}f} ± {_interval(mean, digits)}"


def _signed(mean: Mean) -> str:
    return f"{mean.value:+.2f} ± {_interval(mean, 2)}"


def _interval(mean: Mean, digits: int) -> str:
    return "–" if mean.interval is None else f"{mean.interval:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
